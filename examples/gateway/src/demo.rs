//! Seeded readings: the message of each reading and its expected output are functions of the seed and its
//! number.

use std::net::SocketAddr;

use anyhow::Context;
use inflight::hash_key;
use serde_json::json;
use tokio_postgres::{Config, NoTls};

use crate::devices::Device;
use crate::message::Reading;
use crate::output::Enriched;

/// The number of devices.
pub const DEVICES: u64 = 200;

/// One message in so many is unreadable, and one in so many is of an unknown device.
const POISON: u64 = 400;

/// The readings of a seed.
#[derive(Clone, Copy, Debug)]
pub struct Demo {
    pub seed: u64,
}

/// The expected output of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Enriched(Enriched),
    /// A dead letter of this reading.
    Stranger(Reading),
    /// A dead letter of this text.
    Garbled(String),
}

impl Demo {
    /// Names start with the kind of fate, so that the devices of each kind have their own numbers.
    fn reading(self, number: u64) -> Reading {
        let (device, sequence) = (number % DEVICES, number / DEVICES);
        let value = (self.dice(number) % 100_000) as f64 / 1000.0;
        let kind = if self.is_stranger(number) { "stranger" } else { "device" };
        Reading { device: format!("{kind}-{device:03}"), sequence, value }
    }

    fn dice(self, number: u64) -> u64 {
        let mut dice = hash_key(&(self.seed, number));
        // The low bits of that hash depend little on the high bits of its input.
        dice ^= dice >> 32;
        dice.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
    }

    fn is_stranger(self, number: u64) -> bool {
        self.dice(number) % POISON == 1
    }

    fn is_garbled(self, number: u64) -> bool {
        self.dice(number).is_multiple_of(POISON)
    }

    /// Its device, for the topic.
    pub fn device(self, number: u64) -> String {
        self.reading(number).device
    }

    /// The message as the device sends it.
    pub fn payload(self, number: u64) -> String {
        let mut text = json!(self.reading(number)).to_string();
        if self.is_garbled(number) {
            text.pop();
        }
        text
    }

    pub fn fate(self, number: u64) -> Fate {
        let reading = self.reading(number);
        if self.is_garbled(number) {
            return Fate::Garbled(self.payload(number));
        }
        if self.is_stranger(number) {
            return Fate::Stranger(reading);
        }
        Fate::Enriched(Enriched::new(reading, device(number % DEVICES)))
    }
}

/// The database's row of a device.
fn device(number: u64) -> Device {
    let gain = 1.0 + (number % 7) as f64 / 100.0;
    Device { site: format!("site-{}", number % 10), gain, bias: (number % 5) as f64 - 2.0 }
}

/// Fills the table of devices, and creates it if it does not exist.
pub async fn fill_database(server: SocketAddr) -> anyhow::Result<()> {
    let mut config = Config::new();
    config.host(server.ip().to_string()).port(server.port()).user("gateway").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.context("the database")?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS devices (name text PRIMARY KEY, site text NOT NULL, \
             gain double precision NOT NULL, bias double precision NOT NULL)",
        )
        .await?;
    let insert = "INSERT INTO devices VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING";
    let insert = client.prepare(insert).await?;
    for number in 0..DEVICES {
        let Device { site, gain, bias } = device(number);
        client.execute(&insert, &[&format!("device-{number:03}"), &site, &gain, &bias]).await?;
    }
    Ok(())
}
