//! Whether what a run of load says of a server is worth anything: pure, decided over what it has said.
//!
//! That nobody else used the machine is looked at by `bench/run`, which then plays anew.

use serde_json::Value;

/// Of what is late, what was sent late may be half; whatever comes, so much is nothing,
const SENT_LATE_MIN_MS: f64 = 1.0;
/// and so much is too much.
const SENT_LATE_MAX_MS: f64 = 100.0;

/// Why the figures of a run tell nothing of the server, in words; empty if they do.
pub fn faults(said: &Value) -> Vec<String> {
    let count = |name: &str| said[name].as_u64().unwrap_or_default();
    let mut faults = Vec::new();
    for (name, words) in [
        ("refused", "requests were refused"),
        ("throttled", "requests were refused as too many (rate-limited)"),
        ("lost_connections", "connections were lost"),
        ("lost", "acknowledged messages were lost"),
        ("doubled", "messages came twice"),
    ] {
        if count(name) > 0 {
            faults.push(format!("{} {words}", count(name)));
        }
    }
    // What was refused has been told.
    let answered = count("delivered") + count("refused") + count("throttled");
    if said["sent"].as_u64().is_some_and(|sent| sent > answered) {
        faults.push(format!("{} messages never came", count("sent") - answered));
    }
    if said["all_seen"] == false {
        faults.push("not all who follow have seen the last".to_owned());
    }
    if let Some(late) = said["sent_p99_ms"].as_f64()
        && late > sent_late_max(said["p99_ms"].as_f64())
    {
        faults.push(format!("what was to be sent was sent up to {late:.0} ms late (p99)"));
    }
    faults
}

/// How late may be sent, if what came was so late at most: lateness counts from when something was due,
/// and is to tell of the server, not of who puts the load on it.
fn sent_late_max(came: Option<f64>) -> f64 {
    (came.unwrap_or_default() / 2.0).clamp(SENT_LATE_MIN_MS, SENT_LATE_MAX_MS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said where all is well, and one thing more.
    fn but(name: &str, value: Value) -> Value {
        let mut said = json!({
            "sent": 100, "delivered": 100, "refused": 0, "throttled": 0, "lost_connections": 0,
            "lost": 0, "doubled": 0, "all_seen": true, "p99_ms": 20.0, "sent_p99_ms": 2.0,
        });
        said[name] = value;
        said
    }

    #[test]
    fn a_run_in_which_all_went_well_is_worth_something() {
        assert_eq!(faults(&but("done", json!(7))), [""; 0]);
        // A row that counts none of it, as of sign-ins.
        assert_eq!(faults(&json!({ "first": { "cpu_us": 7.0 } })), [""; 0]);
    }

    #[test]
    fn what_was_lost_refused_or_came_twice_is_told() {
        for (name, value, words) in [
            ("delivered", json!(97), "3 messages never came"),
            ("refused", json!(1), "1 requests were refused"),
            ("throttled", json!(2), "2 requests were refused as too many (rate-limited)"),
            ("lost_connections", json!(4), "4 connections were lost"),
            ("lost", json!(5), "5 acknowledged messages were lost"),
            ("doubled", json!(6), "6 messages came twice"),
            ("all_seen", json!(false), "not all who follow have seen the last"),
        ] {
            assert_eq!(faults(&but(name, value)), [words], "{name}");
        }
    }

    #[test]
    fn what_was_refused_is_not_told_as_lost_too() {
        let mut said = but("delivered", json!(90));
        (said["refused"], said["throttled"]) = (json!(6), json!(4));
        assert_eq!(faults(&said).len(), 2);
        said["delivered"] = json!(89);
        assert_eq!(faults(&said).last().unwrap(), "1 messages never came");
    }

    #[test]
    fn who_cannot_send_in_time_measures_itself() {
        for (came, sent, is_void) in [
            (Some(0.3), 0.9, false),
            (Some(0.3), 1.1, true),
            (Some(20.0), 9.9, false),
            (Some(20.0), 10.1, true),
            (Some(3000.0), 99.0, false),
            (Some(3000.0), 101.0, true),
            (None, 1.1, true),
        ] {
            let said = json!({ "p99_ms": came, "sent_p99_ms": sent });
            assert_eq!(!faults(&said).is_empty(), is_void, "{said}");
        }
    }
}
