//! The text of rules into data: every key known, every word checked, every limit kept.
//!
//! Reading typed values with their lines is in [`reader`]; changing a text is in `edit`.

pub(crate) mod domain;
mod reader;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use impp_protocol::Address;
use toml_edit::{Document, Item, TableLike};

use crate::conditions::Conditions;
use crate::delegation::Delegate;
use crate::error::{RulesError, did_you_mean, one_of};
use crate::grants::{Depth, FieldSet, Grants, PartSet, Parts};
use crate::identity::{Group, Who};
use crate::marks::Marks;
use crate::named::Named;
use crate::rules::{
    DeliveryAction, DeliveryRule, FIELDS_MAX, GROUP_MEMBERS_MAX, GROUPS_MAX, Handling,
    RULES_BYTES_MAX, RULES_MAX, Rule, RuleSet, SELECTORS_MAX, SPHERES_MAX, VALIDITIES_MAX, WHO_MAX,
};
use reader::{Reader, Text};
use words::Kind;

const TOP_KEYS: &[&str] = &["groups", "rule", "delivery", "delegate"];
const RULE_KEYS: &[&str] = &[
    "id", "who", "except", "handling", "fields", "tuples", "persons", "devices", "valid", "sphere",
    "fetch",
];
const DELIVERY_KEYS: &[&str] =
    &["id", "who", "except", "action", "rate", "marks", "valid", "sphere"];
const DELEGATE_KEYS: &[&str] = &["id", "who", "rights", "until"];

type Groups = BTreeMap<Arc<str>, Named>;

/// The TOML of a text, if it is not too long.
fn document(text: &str) -> Result<Document<&str>, RulesError> {
    if text.len() > RULES_BYTES_MAX {
        let message = format!("{} bytes, at most {RULES_BYTES_MAX} are taken", text.len());
        return Err(RulesError::at(text, None, message));
    }
    Document::parse(text).map_err(|error| RulesError::toml(text, &error))
}

/// Reads a text whole, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<RuleSet, RulesError> {
    let document = document(text)?;
    let reader = Reader { text };
    let top = document.as_table();
    reader.only_keys(top, TOP_KEYS)?;
    let groups = read_groups(reader, top.get("groups"))?;
    let sections = Sections { reader, groups: &groups };
    let rules = sections.each(top.get("rule"), "rule", RULE_KEYS, Sections::rule)?;
    let delivery =
        sections.each(top.get("delivery"), "delivery", DELIVERY_KEYS, Sections::delivery)?;
    let delegates =
        sections.each(top.get("delegate"), "delegate", DELEGATE_KEYS, Sections::delegate)?;
    Ok(RuleSet { groups, rules, delivery, delegates })
}

fn read_groups(reader: Reader<'_>, item: Option<&Item>) -> Result<Groups, RulesError> {
    let mut groups = Groups::new();
    let Some(item) = item else { return Ok(groups) };
    let table = item
        .as_table_like()
        .ok_or_else(|| reader.error(item.span(), "\"groups\" is a table: [groups]".to_owned()))?;
    if table.len() > GROUPS_MAX {
        let message = format!("{} groups, at most {GROUPS_MAX} are taken", table.len());
        return Err(reader.error(item.span(), message));
    }
    for (name, item) in table.iter() {
        reader.check_id(&Text { value: name, span: reader.key_span(table, name) })?;
        let members = reader.texts(item, name, GROUP_MEMBERS_MAX)?;
        let members = members.iter().map(|member| read_member(reader, member));
        groups.insert(name.into(), members.collect::<Result<_, _>>()?);
    }
    Ok(groups)
}

fn read_member(reader: Reader<'_>, member: &Text<'_>) -> Result<Address, RulesError> {
    if member.value.starts_with("group:") || member.value.starts_with("domain:") {
        let message = format!("\"{}\" in a group: its members are addresses only", member.value);
        let hint = "list it under \"who\" of the rule".to_owned();
        return Err(reader.error(member.span.clone(), message).hinting(Some(hint)));
    }
    reader.address(member)
}

struct Sections<'a> {
    reader: Reader<'a>,
    groups: &'a Groups,
}

impl<'a> Sections<'a> {
    fn each<T>(
        &self,
        item: Option<&Item>,
        name: &str,
        keys: &[&str],
        read: impl Fn(&Self, &dyn TableLike, String) -> Result<T, RulesError>,
    ) -> Result<Vec<T>, RulesError> {
        let Some(item) = item else { return Ok(Vec::new()) };
        let tables = item.as_array_of_tables().ok_or_else(|| {
            let message = format!("\"{name}\" is written once for each, as [[{name}]]");
            self.reader.error(item.span(), message)
        })?;
        if tables.len() > RULES_MAX {
            let message = format!("{} of [[{name}]], at most {RULES_MAX}", tables.len());
            return Err(self.reader.error(tables.span(), message));
        }
        let mut ids = BTreeSet::new();
        let mut all = Vec::with_capacity(tables.len());
        for table in tables {
            self.reader.only_keys(table, keys)?;
            let id = self.reader.required(table, table.span(), name, "id")?;
            self.reader.check_id(&id)?;
            if !ids.insert(id.value) {
                let message = format!("a second [[{name}]] with the id \"{}\"", id.value);
                return Err(self.reader.error(id.span, message));
            }
            if !table.contains_key("who") {
                let message = format!("[[{name}]] \"{}\" has no \"who\"", id.value);
                let hint = "who = [\"anyone\"] means everybody".to_owned();
                return Err(self.reader.error(table.span(), message).hinting(Some(hint)));
            }
            all.push(read(self, table, id.value.to_owned())?);
        }
        Ok(all)
    }

    fn rule(&self, table: &dyn TableLike, id: String) -> Result<Rule, RulesError> {
        self.granting("rule", table, id)
    }

    /// A rule of a user, or of a domain's floor.
    fn granting(
        &self,
        section: &str,
        table: &dyn TableLike,
        id: String,
    ) -> Result<Rule, RulesError> {
        let words = Handling::EVERY.map(|handling| (handling.as_str(), handling));
        let Some(handling) = self.reader.word(table, "handling", &words)? else {
            return Err(self.lacks(table, section, &id, "handling"));
        };
        let fetch = self.reader.word(table, "fetch", &words)?;
        let fields = self.fields(table)?;
        let tuples = self.parts(table, Kind::TUPLES)?;
        let granted_tuples = match &tuples {
            Some(tuples) => tuples.clone(),
            None if handling.max(fetch.unwrap_or_default()) == Handling::Allow => PartSet::all(),
            None => PartSet::nothing(),
        };
        let persons = self.parts(table, Kind::PERSONS)?;
        let devices = self.parts(table, Kind::DEVICES)?;
        let plain = persons.is_none() && devices.is_none();
        let parts = Parts {
            tuples: granted_tuples,
            persons: persons.unwrap_or_else(PartSet::with_fields),
            devices: devices.unwrap_or_else(PartSet::with_fields),
        };
        let conditions = self.conditions(table)?;
        let by_entry = (fields.is_none() && conditions.who.contacts)
            .then(|| [FieldSet::status(), FieldSet::All].map(|f| Grants::new(f, parts.clone())));
        let grants = Grants::new(fields.clone().unwrap_or_else(FieldSet::nothing), parts);
        Ok(Rule { id, conditions, handling, fetch, fields, tuples, plain, grants, by_entry })
    }

    fn delivery(&self, table: &dyn TableLike, id: String) -> Result<DeliveryRule, RulesError> {
        let words = DeliveryAction::EVERY.map(|action| (action.as_str(), action));
        let Some(action) = self.reader.word(table, "action", &words)? else {
            return Err(self.lacks(table, "delivery", &id, "action"));
        };
        let rate = match self.reader.optional(table, "rate")? {
            None => None,
            Some(text) if action < DeliveryAction::Hold => {
                let message = format!("a rate with \"{action}\", which lets nothing through");
                return Err(self.reader.error(text.span, message));
            }
            Some(text) => Some(words::rate(self.reader, &text)?),
        };
        let marks = self.marks(table, action)?;
        Ok(DeliveryRule { id, conditions: self.conditions(table)?, action, rate, marks })
    }

    /// Which marks a sender may be told: of what is not let into the inbox there are none.
    fn marks(&self, table: &dyn TableLike, action: DeliveryAction) -> Result<Marks, RulesError> {
        let Some(item) = table.get("marks") else { return Ok(Marks::NONE) };
        let mut marks = Marks::NONE;
        for text in self.reader.texts(item, "marks", Marks::EVERY.len())? {
            let Some((_, one)) = Marks::EVERY.into_iter().find(|(word, _)| *word == text.value)
            else {
                let message = format!("unknown mark \"{}\"", text.value);
                let hint = one_of(Marks::EVERY.map(|(word, _)| word));
                return Err(self.reader.error(text.span, message).hinting(Some(hint)));
            };
            marks = marks.or(one);
        }
        if marks.any() && action != DeliveryAction::Accept {
            let message = format!("marks with \"{action}\", which lets nothing into the inbox");
            return Err(self.reader.error(item.span(), message));
        }
        Ok(marks)
    }

    fn delegate(&self, table: &dyn TableLike, id: String) -> Result<Delegate, RulesError> {
        let list = |key, max| match table.get(key) {
            Some(item) => self.reader.texts(item, key, max),
            None => Ok(Vec::new()),
        };
        let who = list("who", WHO_MAX)?;
        let who =
            who.iter().map(|text| self.delegated_to(text)).collect::<Result<BTreeSet<_>, _>>()?;
        let rights = list("rights", FIELDS_MAX)?;
        let rights =
            rights.iter().map(|text| words::right(self.reader, text)).collect::<Result<_, _>>()?;
        let until = match self.reader.optional(table, "until")? {
            Some(text) => Some(words::time(self.reader, &text, text.value)?),
            None => None,
        };
        Ok(Delegate { id, who, rights, until })
    }

    /// Who acts for somebody else is somebody, and not whoever comes to be in a group or a list.
    fn delegated_to(&self, text: &Text<'_>) -> Result<Address, RulesError> {
        const MANY: [&str; 4] = ["contacts", "authenticated", "anonymous", "anyone"];
        let prefixed = ["group:", "domain:"].iter().any(|word| text.value.starts_with(word));
        if prefixed || MANY.contains(&text.value) {
            let message = format!("\"{}\" in a [[delegate]]: only addresses are", text.value);
            let hint = "name each one: who = [\"calendar@a.example\"]".to_owned();
            return Err(self.reader.error(text.span.clone(), message).hinting(Some(hint)));
        }
        self.reader.address(text)
    }

    fn conditions(&self, table: &dyn TableLike) -> Result<Conditions, RulesError> {
        let mut conditions = Conditions {
            who: self.who(table, "who")?,
            except: self.who(table, "except")?,
            ..Conditions::default()
        };
        for text in self.restriction(table, "valid", VALIDITIES_MAX)? {
            conditions.valid.push(words::validity(self.reader, &text)?);
        }
        for text in self.restriction(table, "sphere", SPHERES_MAX)? {
            let word = text.value.trim();
            if word.is_empty() {
                return Err(self.reader.error(text.span, "an empty sphere".to_owned()));
            }
            conditions.spheres.push(word.to_lowercase());
        }
        Ok(conditions)
    }

    /// A list that narrows a rule if it is there. An empty one could be read as "always" or as
    /// "never", so it is refused.
    fn restriction<'t>(
        &self,
        table: &'t dyn TableLike,
        key: &str,
        max: usize,
    ) -> Result<Vec<Text<'t>>, RulesError> {
        let Some(item) = table.get(key) else { return Ok(Vec::new()) };
        let texts = self.reader.texts(item, key, max)?;
        if texts.is_empty() {
            let hint = format!("leave \"{key}\" out if it does not matter");
            let message = format!("\"{key}\" is empty");
            return Err(self.reader.error(item.span(), message).hinting(Some(hint)));
        }
        Ok(texts)
    }

    fn who(&self, table: &dyn TableLike, key: &str) -> Result<Who, RulesError> {
        let (mut who, mut addresses) = (Who::default(), Vec::new());
        let Some(item) = table.get(key) else { return Ok(who) };
        for text in self.reader.texts(item, key, WHO_MAX)? {
            match text.value {
                "contacts" => who.contacts = true,
                "authenticated" => who.authenticated = true,
                "anonymous" => who.anonymous = true,
                "anyone" => who.anyone = true,
                value => {
                    if let Some(name) = value.strip_prefix("group:") {
                        who.groups.push(self.group(name, &text)?);
                    } else if let Some(domain) = value.strip_prefix("domain:") {
                        who.domains.insert(self.reader.domain(domain, &text)?);
                    } else {
                        addresses.push(self.reader.address(&text)?);
                    }
                }
            }
        }
        who.addresses = addresses.into_iter().collect();
        Ok(who)
    }

    fn group(&self, name: &str, text: &Text<'_>) -> Result<Group, RulesError> {
        let Some((name, members)) = self.groups.get_key_value(name) else {
            let hint = did_you_mean(name, self.groups.keys().map(|name| &**name))
                .unwrap_or_else(|| format!("write it under [groups]: {name} = [\"…\"]"));
            let error = self.reader.error(text.span.clone(), format!("unknown group \"{name}\""));
            return Err(error.hinting(Some(hint)));
        };
        Ok(Group { name: name.clone(), members: members.clone() })
    }

    fn fields(&self, table: &dyn TableLike) -> Result<Option<FieldSet>, RulesError> {
        let Some(item) = table.get("fields") else { return Ok(None) };
        let mut names: BTreeMap<_, Depth> = BTreeMap::new();
        let mut all = false;
        for text in self.reader.texts(item, "fields", FIELDS_MAX)? {
            if text.value == "all" {
                all = true;
                continue;
            }
            let (name, depth) = words::granted(self.reader, &text)?;
            let most = names.get(&name).copied().max(Some(depth)).unwrap_or(depth);
            names.insert(name, most);
        }
        Ok(Some(if all { FieldSet::All } else { FieldSet::Only(names) }))
    }

    fn parts(&self, table: &dyn TableLike, kind: Kind) -> Result<Option<PartSet>, RulesError> {
        let Some(item) = table.get(kind.key) else { return Ok(None) };
        let mut selectors = BTreeSet::new();
        let mut all = false;
        for text in self.reader.texts(item, kind.key, SELECTORS_MAX)? {
            if text.value == "all" {
                all = true;
            } else {
                selectors.insert(words::selector(self.reader, &text, kind)?);
            }
        }
        Ok(Some(PartSet::new(all, selectors)))
    }

    fn lacks(&self, table: &dyn TableLike, section: &str, id: &str, key: &str) -> RulesError {
        let words = match key {
            "action" => one_of(DeliveryAction::EVERY.map(DeliveryAction::as_str)),
            _ => one_of(Handling::EVERY.map(Handling::as_str)),
        };
        let span = self.reader.key_span(table, "id");
        let error = self.reader.error(span, format!("[[{section}]] \"{id}\" has no \"{key}\""));
        error.hinting(Some(words))
    }
}

#[cfg(test)]
mod tests;
