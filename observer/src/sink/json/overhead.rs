//! What observing costs, as an object.

use serde::Serialize;

use super::line::Integer;
use crate::sink::Overhead;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sink) struct OverheadObject {
    for_ns: Integer,
    hits: Integer,
    foreign_hits: Integer,
    records: Integer,
    samples: Integer,
    lost: Integer,
    hit_ns: Option<u64>,
    added_ns: Option<Integer>,
    observer_cpu_ns: Integer,
    observer_memory: Option<Integer>,
}

impl OverheadObject {
    pub(in crate::sink) fn new(overhead: &Overhead) -> Self {
        Self {
            for_ns: Integer(overhead.during.0),
            hits: Integer(overhead.hits),
            foreign_hits: Integer(overhead.foreign),
            records: Integer(overhead.records),
            samples: Integer(overhead.samples),
            lost: Integer(overhead.lost),
            hit_ns: overhead.hit_ns.map(|ns| ns.round() as u64),
            added_ns: overhead.added.map(|ns| Integer(ns.0)),
            observer_cpu_ns: Integer(overhead.own_cpu.0),
            observer_memory: overhead.own_memory.map(Integer),
        }
    }
}
