//! Holds lines to the JSON Schema in the repository. Knows nothing of what they mean.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The schema of `trace --json`.
const EVENTS: &str = include_str!("../../observer/schema/events.schema.json");
/// The schema of `ps --json` and `sweep --json`.
const SITES: &str = include_str!("../../observer/schema/sites.schema.json");

/// The schema of `doctor --json`.
const DOCTOR: &str = include_str!("../../observer/schema/doctor.schema.json");

/// What is wrong with a line of `trace`, or nothing.
pub fn fault(line: &Value) -> Option<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    first_fault(VALIDATOR.get_or_init(|| validator(EVENTS)), line)
}

/// What is wrong with a line of `ps` or `sweep`, or nothing.
pub fn look_fault(line: &Value) -> Option<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    first_fault(VALIDATOR.get_or_init(|| validator(SITES)), line)
}

/// What is wrong with a line of `doctor`, or nothing.
pub fn diagnosis_fault(line: &Value) -> Option<String> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    first_fault(VALIDATOR.get_or_init(|| validator(DOCTOR)), line)
}

fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}

fn first_fault(validator: &Validator, line: &Value) -> Option<String> {
    let error = validator.iter_errors(line).next()?;
    Some(format!("{error} at {}", error.instance_path()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_of_the_contract_are_accepted() {
        let resource = json!({"taskId": "17", "future": null, "futureCertain": false, "location": "src/main.rs:20:5",
            "address": "0x7f00", "typeId": "ab+0x1f40", "anAddition": 1});
        let lines = [
            json!({"v": 1, "event": "before", "ts": 5, "pid": 7, "tid": 8, "asyncId": 12, "rootAsyncId": 12, "inferred": false}),
            json!({"v": 1, "event": "destroy", "ts": "18446744073709551615", "pid": 7, "tid": null, "asyncId": 12, "rootAsyncId": 12, "inferred": true}),
            json!({"v": 1, "event": "lost", "ts": 5, "pid": null, "count": 3}),
            json!({"v": 1, "event": "init", "ts": 5, "pid": 7, "tid": 8, "asyncId": 12, "rootAsyncId": 12, "type": "TOKIO_TASK", "triggerAsyncId": 0,
                "executionAsyncId": null, "existing": false, "inferred": false, "resource": resource}),
            json!({"v": 1, "event": "resolve", "ts": 5, "pid": 7, "tid": 8, "asyncId": 12, "rootAsyncId": 12, "inferred": false, "outcome": "ready"}),
        ];
        for line in lines {
            assert_eq!(fault(&line), None, "{line}");
        }
    }

    #[test]
    fn a_line_that_lacks_what_is_promised_is_refused() {
        let cases = [
            (
                json!({"v": 1, "event": "before", "ts": 5, "pid": 7, "tid": 8, "rootAsyncId": 1, "inferred": false}),
                "\"asyncId\" is a required property at ",
            ),
            (json!({"v": 2, "event": "lost", "ts": 5, "count": 1}), "1 was expected at /v"),
            (
                json!({"v": 1, "event": "resolve", "ts": 5, "pid": 7, "tid": 8, "asyncId": 1, "rootAsyncId": 1, "inferred": false, "outcome": "done"}),
                "\"done\" is not one of \"ready\", \"cancelled\" or 2 other candidates at /outcome",
            ),
        ];
        for (line, wrong) in cases {
            assert_eq!(fault(&line).as_deref(), Some(wrong), "{line}");
        }
    }

    #[test]
    fn a_line_about_sites_is_held_to_the_schema_of_its_kind() {
        let gone = json!({"v": 1, "event": "unreadable", "ts": 5, "pid": 7, "reason": "it is gone"});
        assert_eq!(look_fault(&gone), None);
        let silent = json!({"v": 1, "event": "unreadable", "ts": 5, "pid": 7});
        assert_eq!(look_fault(&silent).as_deref(), Some("\"reason\" is a required property at "));
        let finding = json!({"v": 1, "event": "finding", "ts": 5, "pid": 7, "exe": "/bin/app", "type": "TOKIO_TASK",
            "typeId": "ab+0x10", "future": null, "futureCertain": false, "location": null, "locationCertain": false,
            "spawnedAt": null, "worker": false, "verdict": "stuck", "live": 1, "tasks": 1, "waits": [], "spawned": null,
            "evidence": {"words": "no waker", "lowestTaskId": "3", "highestTaskId": "3", "seenForMs": 1.5, "apartMs": 1.5}});
        let wrong = "\"withHandle\" is a required property at /evidence";
        assert_eq!(look_fault(&finding).as_deref(), Some(wrong), "each verdict has its own evidence");
    }

    #[test]
    fn a_need_that_is_missing_says_why_and_the_next_step() {
        let mut need = json!({"v": 1, "event": "need", "ts": 5, "need": "rings", "for": "records", "optional": false,
            "result": "works"});
        assert_eq!(diagnosis_fault(&need), None);
        need["result"] = json!("missing");
        need["why"] = json!("it is not permitted");
        need["errno"] = json!(1);
        assert_eq!(diagnosis_fault(&need).as_deref(), Some("\"nextStep\" is a required property at "));
    }
}
