//! A target and its images as JSON objects.

use serde::Serialize;

use crate::model::{ContainerId, Enclosure, MappedImage, Missing, TargetEntry};

#[derive(Serialize)]
pub(in crate::sink) struct TargetObject<'a> {
    pid: u32,
    #[serde(flatten)]
    enclosure: EnclosureObject<'a>,
    exe: &'a str,
    images: Vec<ImageObject<'a>>,
    missing: Vec<MissingObject<'a>>,
}

/// What encloses a process; what is not known is absent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sink) struct EnclosureObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ns_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageObject<'a> {
    path: &'a str,
    build_id: String,
    runtime: &'a str,
    version: Option<&'a str>,
    unstable: bool,
    stripped: bool,
    types: usize,
    spawn_sites: usize,
    points: usize,
    single_stepped: usize,
}

#[derive(Serialize)]
struct MissingObject<'a> {
    event: &'a str,
    reason: &'a str,
}

impl<'a> TargetObject<'a> {
    /// `common` is what is missing in all targets.
    pub(in crate::sink) fn new(target: &'a TargetEntry, common: &'a [Missing]) -> Self {
        let images = target.images.iter().map(|MappedImage { image, path, .. }| ImageObject {
            path,
            build_id: image.build_id.to_string(),
            runtime: "tokio",
            version: image.version.as_deref(),
            unstable: image.unstable,
            stripped: image.stripped,
            types: image.types.len(),
            spawn_sites: image.spawn_sites,
            points: image.points.len(),
            single_stepped: image.single_stepped(),
        });
        let missing = common.iter().chain(&target.missing);
        Self {
            pid: target.pid.0,
            enclosure: EnclosureObject::new(&target.enclosure),
            exe: &target.exe,
            images: images.collect(),
            missing: missing.map(|missing| MissingObject { event: missing.event, reason: &missing.reason }).collect(),
        }
    }
}

impl<'a> EnclosureObject<'a> {
    pub(in crate::sink) fn new(enclosure: &'a Enclosure) -> Self {
        Self {
            ns_pid: enclosure.ns_pid.map(|own| own.0),
            container_id: enclosure.container.as_ref().map(ContainerId::as_str),
            cgroup: enclosure.cgroup.as_deref(),
        }
    }
}
