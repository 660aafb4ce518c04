//! The client of Kinesis.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Builder, Config, Credentials, Region};

use crate::options::Options;

/// A client for the emulator, or for AWS.
///
/// The SDK tries nothing again: [`patience`](crate::patience) does, in one place and with one bound.
pub async fn client(options: &Options) -> anyhow::Result<Client> {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(20));
    let config = match &options.emulator {
        Some(url) => emulator(url),
        None => aws().await?,
    };
    let config = config.retry_config(RetryConfig::disabled()).timeout_config(timeouts.build());
    Ok(Client::from_conf(config.build()))
}

fn emulator(url: &str) -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("emulator", "emulator", None, None, "emulator"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
}

#[cfg(feature = "aws")]
async fn aws() -> anyhow::Result<Builder> {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    let https = aws_smithy_http_client::Builder::new();
    let https = https.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(https).load().await;
    Ok(Builder::from(&config))
}

#[cfg(not(feature = "aws"))]
async fn aws() -> anyhow::Result<Builder> {
    anyhow::bail!("built without the feature `aws`, so only --emulator URL is possible")
}
