//! A headless Chromium, driven through the DevTools protocol over a pipe: messages of JSON, each ended by a zero byte.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use std::{env, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest wait for an answer of the browser. A machine may be busy; a browser that hangs must not hang the tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol's pipe is file descriptors 3 and 4; the standard library passes 0 and 1.
const ON_PIPES: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";

/// A browser with one page. It ends when it is dropped.
pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// Errors that the page has reported: exceptions, and what its security policy has refused.
    errors: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// `None`, with a message, on a machine without Chromium; with `INFLIGHT_CI=1` that is a failure.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed() {
            assert!(env::var_os("INFLIGHT_CI").is_none_or(|ci| ci != "1"), "there is no Chromium");
            // Without `eprintln`, because the output of a test that passes is not shown.
            let _ = writeln!(
                io::stderr(),
                "\nSKIPPED: there is no Chromium (Debian's package `chromium`)\n"
            );
            return None;
        }
        let profile = TempDir::new().expect("a folder for the profile");
        let mut process = Command::new("sh")
            .args([
                "-c",
                ON_PIPES,
                "chromium",
                "--headless",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
            ])
            // Its sandbox does not work as root and in most containers; it opens nothing but the console under test.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = process.stdin.take().expect("piped");
        let from = messages(BufReader::new(process.stdout.take().expect("piped")));
        let mut browser = Self {
            process,
            to,
            from,
            calls: 0,
            session: None,
            errors: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let target =
            self.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session =
            self.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": include_str!("helpers.js")}),
        );
    }

    pub(crate) fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url}));
        assert_eq!(answer.get("errorText"), None, "{answer}");
    }

    /// Behaves like a screen of this width in CSS pixels, of a system with this colour scheme.
    pub(crate) fn screen(&mut self, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}),
        );
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Presses a key on the page, as its name in `KeyboardEvent.key`.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "ArrowRight" => 39,
                _ => panic!("the code of {key} is not known here"),
            };
            self.call(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "windowsVirtualKeyCode": code}),
            );
        }
    }

    /// What an accessibility tool sees: a line `role: name` for each thing on the page.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let word =
            |node: &Value, what: &str| node[what]["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .filter(|node| node["ignored"] == false)
            .map(|node| format!("{}: {}", word(node, "role"), word(node, "name")))
            .collect()
    }

    /// The value of a JavaScript expression, awaited if it is a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        assert_eq!(answer.get("exceptionDetails"), None, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true on the page. The page's own changes wake it.
    pub(crate) fn until(&mut self, expression: &str) {
        let waiting = format!(
            "new Promise((resolve) => {{
                const holds = () => {{ try {{ return {expression}; }} catch {{ return false; }} }};
                const end = (found) => {{ observer.disconnect(); clearTimeout(timer); resolve(found); }};
                const observer = new MutationObserver(() => holds() && end(true));
                const timer = setTimeout(end, 30_000, false);
                observer.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
                if (holds()) end(true);
            }})"
        );
        if self.value(&waiting) != true {
            let page = self.value("document.body.innerText");
            let page = page.as_str().unwrap_or_default();
            panic!(
                "not within 30 s: {expression}\nThe page's errors: {:?}\nThe page:\n{page}",
                self.errors
            );
        }
    }

    /// Fails if the page has reported an error.
    pub(crate) fn assert_no_errors(&mut self) {
        self.value("1"); // Events that came before this answer have been read with it.
        assert_eq!(self.errors, [""; 0]);
    }

    /// Calls a method of the protocol, in the page's session if there is one.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        write!(self.to, "{message}\0").and_then(|()| self.to.flush()).expect("the browser runs");
        loop {
            let mut answer = self
                .from
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.calls {
                assert_eq!(answer.get("error"), None, "{method}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.errors.push(parameters["exceptionDetails"].to_string())
            }
            // An answer that did not come is what some of the tests are about.
            Some("Log.entryAdded")
                if parameters["entry"]["level"] == "error"
                    && parameters["entry"]["source"] != "network" =>
            {
                self.errors.push(parameters["entry"]["text"].to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It tells its own processes to end; the profile's folder goes after it.
        let _ = write!(self.to, "{}\0", json!({"id": 0, "method": "Browser.close"}))
            .and_then(|()| self.to.flush());
        while self.from.recv_timeout(Duration::from_secs(10)).is_ok() {}
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_installed() -> bool {
    let version = Command::new("chromium")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Reads on a thread of its own, so that a wait for a message can have an end.
fn messages(mut pipe: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut message = Vec::new();
        while pipe.read_until(0, &mut message).is_ok_and(|length| length > 0) {
            message.pop();
            let Ok(value) = serde_json::from_slice(&message) else { return };
            if sender.send(value).is_err() {
                return;
            }
            message.clear();
        }
    });
    receiver
}
