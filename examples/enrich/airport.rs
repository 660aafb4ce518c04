//! Airports: the data of the service, and the fields of the output.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

const TABLE: &[u8] = include_bytes!("data/airports.csv");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Airport {
    pub name: String,
    pub city: String,
    pub state: String,
    pub latitude: f64,
    pub longitude: f64,
}

/// The fields that enrich a flight, with their names in the output.
#[derive(Debug, Serialize)]
pub struct Enrichment {
    pub origin_airport: Airport,
    pub destination_airport: Airport,
}

/// The airports of `airports.csv`, which is part of the program, by their codes.
pub fn table() -> Result<HashMap<String, Airport>, Problem> {
    #[derive(Deserialize)]
    struct Row {
        iata: String,
        name: String,
        city: String,
        state: String,
        latitude: f64,
        longitude: f64,
    }
    let rows = csv::Reader::from_reader(TABLE).into_deserialize::<Row>();
    let airports = rows.map(|row| {
        let Row { iata, name, city, state, latitude, longitude } = row?;
        Ok((iata, Airport { name, city, state, latitude, longitude }))
    });
    airports.collect::<Result<_, csv::Error>>().map_err(|error| {
        Problem::new(
            format!("airports.csv is damaged: {error}"),
            "Restore the file and build again.",
        )
    })
}
