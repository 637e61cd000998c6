//! A rules text under edit: small changes to lists that leave comments and layout as they are.
//!
//! What to change is left to the module above.

use impp_protocol::Address;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, RawString, Table, TableLike, value};

use super::Line;
use crate::error::RulesError;

/// The text, and which of its sections is edited.
pub(super) struct RulesText {
    document: DocumentMut,
    section: &'static str,
}

impl RulesText {
    /// Opens a text that has been parsed as rules before.
    pub(super) fn open(text: &str, section: &'static str) -> Result<RulesText, RulesError> {
        let document = text
            .parse::<DocumentMut>()
            .map_err(|error| RulesError::at(text, error.span(), error.message().to_owned()))?;
        Ok(RulesText { document, section })
    }

    pub(super) fn to_text(&self) -> String {
        self.document.to_string()
    }

    /// Takes an address out of such groups, in whatever spelling it stands there.
    pub(super) fn remove_member(&mut self, is_one: impl Fn(&str) -> bool, who: &Address) {
        let groups = self.document.get_mut("groups").and_then(Item::as_table_like_mut);
        for (name, members) in groups.into_iter().flat_map(|groups| groups.iter_mut()) {
            if let Some(array) = members.as_array_mut().filter(|_| is_one(name.get())) {
                remove(array, who);
            }
        }
    }

    /// Puts an address into a group, which is made if there is none.
    pub(super) fn add_member(&mut self, group: &str, who: &Address) {
        let groups = self.document.entry("groups").or_insert(Item::Table(Table::new()));
        if let Some(groups) = groups.as_table_like_mut() {
            append(groups, group, who.as_str());
        }
    }

    /// Takes an address out of a list of a rule.
    pub(super) fn remove_from(&mut self, index: usize, key: &str, who: &Address) {
        let list = self.rule(index).and_then(|table| table.get_mut(key));
        if let Some(array) = list.and_then(Item::as_array_mut) {
            remove(array, who);
        }
    }

    /// Adds an item to a list of a rule; the list is made if there is none.
    pub(super) fn append(&mut self, index: usize, key: &str, item: &str) {
        if let Some(table) = self.rule(index) {
            append(table, key, item);
        }
    }

    /// Adds a rule for one address behind the others.
    pub(super) fn push_rule(&mut self, id: &str, who: &Address, lines: &[(&'static str, Line)]) {
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        table.insert("id", value(id));
        table.insert("who", value(Array::from_iter([who.as_str()])));
        for (key, line) in lines {
            match line {
                Line::Word(word) => table.insert(key, value(*word)),
                Line::List(words) => table.insert(key, value(Array::from_iter(words))),
            };
        }
        let empty = Item::ArrayOfTables(ArrayOfTables::new());
        let section = self.document.entry(self.section).or_insert(empty);
        if let Some(tables) = section.as_array_of_tables_mut() {
            tables.push(table);
        }
    }

    fn rule(&mut self, index: usize) -> Option<&mut Table> {
        self.document.get_mut(self.section)?.as_array_of_tables_mut()?.get_mut(index)
    }
}

fn append(table: &mut dyn TableLike, key: &str, item: &str) {
    let list = table.entry(key).or_insert(value(Array::new()));
    let Some(array) = list.as_array_mut() else { return };
    let indent = array.iter().last().map(|last| text_of(last.decor().prefix()));
    array.push(item);
    // In a list of one item to a line, so stands the new one.
    if let Some((_, spaces)) = indent.as_deref().and_then(|text| text.rsplit_once('\n'))
        && let Some(last) = array.len().checked_sub(1).and_then(|at| array.get_mut(at))
    {
        last.decor_mut().set_prefix(format!("\n{spaces}"));
    }
}

/// Removes an address in any spelling; a comment that stood before it stays.
fn remove(array: &mut Array, who: &Address) {
    let is_who = |text: Option<&str>| {
        text.and_then(|text| Address::parse(text).ok()).is_some_and(|address| address == *who)
    };
    let find = |array: &Array| array.iter().position(|item| is_who(item.as_str()));
    while let Some(at) = find(array) {
        let removed = array.remove(at);
        let before = text_of(removed.decor().prefix());
        let comment = if before.contains('#') { before.as_str() } else { "" };
        if let Some(next) = array.get_mut(at) {
            let own = text_of(next.decor().prefix());
            let own = if at == 0 { own.trim_start_matches(' ') } else { &own };
            next.decor_mut().set_prefix(format!("{comment}{own}"));
        } else if !comment.is_empty() {
            let trailing = text_of(Some(array.trailing()));
            array.set_trailing(format!("{comment}{trailing}"));
        }
    }
}

fn text_of(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}
