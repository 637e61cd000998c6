//! What the numbers of a configuration may be.

use super::Config;

/// Section and name of a number, what it is, and the least and the most that it may be.
pub(super) type Range = (&'static str, &'static str, u64, u64, u64);

const DAY: u64 = 86_400;

impl Config {
    /// What each may be.
    pub(super) fn numbers(&self) -> impl Iterator<Item = Range> {
        [self.ranges(), self.nameless_ranges(), self.kept_ranges(), self.link_ranges()]
            .into_iter()
            .flatten()
    }

    fn ranges(&self) -> Vec<Range> {
        let (times, limits) = (&self.times, &self.limits);
        vec![
            ("limits", "unsigned_max", limits.unsigned_max, 1, 1_000_000),
            ("limits", "unsigned_per_address_max", limits.unsigned_per_address_max, 1, 1_000_000),
            ("limits", "unsigned_per_network_max", limits.unsigned_per_network_max, 1, 1_000_000),
            ("limits", "handshakes_per_second", limits.handshakes_per_second, 1, 1_000_000),
            ("limits", "failed_sign_in_wait_seconds", limits.failed_sign_in_wait_seconds, 0, 512),
            ("limits", "sign_in_seconds", limits.sign_in_seconds, 1, DAY),
            ("limits", "frame_seconds", limits.frame_seconds, 1, DAY),
            ("limits", "stall_seconds", limits.stall_seconds, 1, DAY),
            ("limits", "push_buffer_bytes", limits.push_buffer_bytes, 4096, 1 << 30),
            ("limits", "requests_in_flight_max", limits.requests_in_flight_max, 1, 65_536),
            ("limits", "requests_per_second", limits.requests_per_second, 1, 1_000_000),
            ("limits", "requests_burst", limits.requests_burst, 1, 1_000_000),
            ("limits", "work_per_second", limits.work_per_second, 1, 1_000_000_000),
            ("limits", "work_burst", limits.work_burst, 1, 1_000_000_000),
            ("limits", "stored_bytes_per_second", limits.stored_bytes_per_second, 1, 1 << 40),
            ("limits", "stored_bytes_burst", limits.stored_bytes_burst, 1, 1 << 40),
            ("limits", "devices_max", limits.devices_max, 1, 64),
            ("limits", "sessions_max", limits.sessions_max, 1, 1_000_000),
            ("times", "idle_seconds", times.idle_seconds, 1, DAY),
            ("times", "resume_window_seconds", times.resume_window_seconds, 0, 30 * DAY),
            ("times", "grace_seconds", times.grace_seconds, 0, 30 * DAY),
            ("times", "lease_min_seconds", times.lease_min_seconds, 1, times.lease_max_seconds),
            ("times", "lease_max_seconds", times.lease_max_seconds, 1, 365 * DAY),
            ("times", "pace_burst", times.pace_burst, 1, 1_000_000),
            ("times", "pace_milliseconds", times.pace_milliseconds, 1, 1000 * DAY),
            ("times", "recovery_seconds", times.recovery_seconds, 0, DAY),
            ("times", "stop_retry_seconds", times.stop_retry_seconds, 0, DAY),
            ("times", "device_lease_days", times.device_lease_days, 1, 36_500),
        ]
    }

    fn nameless_ranges(&self) -> Vec<Range> {
        let limits = &self.limits;
        let (requests, bytes) = (
            (limits.anonymous_requests_per_second, limits.anonymous_requests_burst),
            (limits.anonymous_bytes_per_second, limits.anonymous_bytes_burst),
        );
        vec![
            ("limits", "anonymous_max", limits.anonymous_max, 1, 1_000_000),
            ("limits", "anonymous_per_address_max", limits.anonymous_per_address_max, 1, 1_000_000),
            ("limits", "anonymous_requests_per_second", requests.0, 1, 1_000_000),
            ("limits", "anonymous_requests_burst", requests.1, 1, 1_000_000),
            ("limits", "anonymous_bytes_per_second", bytes.0, 1, 1 << 40),
            ("limits", "anonymous_bytes_burst", bytes.1, 1, 1 << 40),
        ]
    }

    fn kept_ranges(&self) -> Vec<Range> {
        let inbox = &self.inbox;
        vec![
            ("inbox", "retention_days", inbox.retention_days, 0, 36_500),
            ("inbox", "kept_items_max", inbox.kept_items_max, 16, 1 << 40),
            ("inbox", "kept_bytes_max", inbox.kept_bytes_max, 65_536, 1 << 50),
            ("limits", "known_ids_max", self.limits.known_ids_max, 1, 1 << 40),
        ]
    }

    fn link_ranges(&self) -> Vec<Range> {
        let (times, links) = (&self.times, &self.federation);
        let per_minute = links.unproven_connects_per_minute;
        let shown = (links.presence_bytes_per_second, links.presence_bytes_burst);
        let named = (links.new_addresses_per_second, links.new_addresses_burst);
        vec![
            ("federation", "dial_seconds", links.dial_seconds, 1, 600),
            ("federation", "retry_min_milliseconds", links.retry_min_milliseconds, 1, DAY),
            ("federation", "retry_max_seconds", links.retry_max_seconds, 1, DAY),
            ("federation", "unproven_connects_per_minute", per_minute, 1, 1000),
            // With the age that an id may have when it comes in, less than a repeat is known for.
            ("federation", "queue_seconds", links.queue_seconds, 1, 47 * 3600),
            ("federation", "queue_items_max", links.queue_items_max, 1, 10_000_000),
            ("federation", "requests_in_flight_max", links.requests_in_flight_max, 1, 4096),
            ("federation", "answer_seconds", links.answer_seconds, 1, DAY),
            ("federation", "frames_per_second", links.frames_per_second, 1, 10_000_000),
            ("federation", "frames_burst", links.frames_burst, 1, 10_000_000),
            ("federation", "messages_per_second", links.messages_per_second, 1, 10_000_000),
            ("federation", "messages_burst", links.messages_burst, 1, 10_000_000),
            ("federation", "stored_bytes_per_second", links.stored_bytes_per_second, 1, 1 << 40),
            ("federation", "stored_bytes_burst", links.stored_bytes_burst, 1, 1 << 40),
            ("federation", "presence_bytes_per_second", shown.0, 1, 1 << 40),
            ("federation", "presence_bytes_burst", shown.1, 1, 1 << 40),
            ("federation", "new_addresses_per_second", named.0, 1, 10_000_000),
            ("federation", "new_addresses_burst", named.1, 1, 10_000_000),
            ("federation", "domains_max", links.domains_max, 1, 1_000_000),
            ("federation", "lease_seconds", links.lease_seconds, 1, times.lease_max_seconds),
            ("federation", "stale_seconds", links.stale_seconds, 0, DAY),
            ("federation", "idle_seconds", links.idle_seconds, 1, DAY),
            ("federation", "close_seconds", links.close_seconds, 1, 365 * DAY),
        ]
    }
}
