//! Things: the states and series of a principal, named by its address and a small integer.

use crate::schema::numbers;

numbers! {
    /// Which state or series of an address is meant.
    pub open enum What {
        /// State: the presence document, as the asker may see it.
        Presence = 1, "presence";
        /// State: who watches the caller's presence.
        Watchers = 2, "watchers";
        /// State: access rules and delivery rules, one TOML text.
        Rules = 3, "rules";
        /// State: the caller's contact list.
        Contacts = 5, "contacts";
        /// State: the caller's devices.
        Devices = 6, "devices";
        /// State: how far each conversation was read. Reserved.
        ReadMarks = 7, "read-marks";
        /// State: subscriptions and messages that wait for the caller's decision.
        Requests = 9, "requests";
        /// State: what the caller follows.
        Subscriptions = 10, "subscriptions";
        /// State: the caller's own layer of presence as published.
        Layer = 11, "layer";
        /// State: what delegates did for the caller.
        Acts = 12, "acts";
        /// State: who may act for the caller, and for whom the caller may.
        Delegations = 13, "delegations";
        /// Read once: what the caller's rules say about somebody, and why.
        Explain = 16, "explain";
        /// Read once: the fate of a message that the caller sent, or where it waits.
        Fate = 17, "fate";
        /// Series: the caller's log.
        Log = 32, "log";
    }
}
