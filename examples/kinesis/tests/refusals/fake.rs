//! A client of Kinesis whose answers a test gives.

use std::sync::{Arc, Mutex};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_http_client::test_util::infallible_client_fn;
use serde_json::{Value, json};

/// The calls so far, each with its name.
pub(crate) type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A client whose n-th call gets the answer of `answer(n, ..)`: a status and a body.
pub(crate) fn kinesis(
    answer: impl Fn(usize, &str, &Value) -> (u16, Value) + Send + Sync + 'static,
) -> (Client, Calls) {
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let http = infallible_client_fn(move |request| {
        let target = request.headers()["x-amz-target"].to_str().unwrap();
        let name = target.rsplit('.').next().unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let mut calls = noted.lock().unwrap();
        let (status, answer) = answer(calls.len(), &name, &body);
        calls.push((name, body));
        let response = http::Response::builder().status(status);
        response
            .header("content-type", "application/x-amz-json-1.1")
            .body(answer.to_string())
            .unwrap()
    });
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(http);
    (Client::from_conf(config.build()), calls)
}

pub(crate) fn refused(code: &str) -> (u16, Value) {
    (400, json!({ "__type": code, "message": "not now" }))
}

/// The names of the calls so far.
pub(crate) fn names(calls: &Calls) -> Vec<String> {
    calls.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
}
