//! The table of bounds in `docs/architecture.md`, read against the source: what it names is there, and has
//! the value that it says.

use std::collections::BTreeMap;
use std::path::Path;

use syn::{BinOp, Expr, ImplItem, Item, Lit};

use crate::sizes;
use crate::sources::Source;

/// What a constant is, or is said to be: the second for times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Number(u128),
    Time(u128),
}

/// A constant: in which file, and what it is; what is made of several has several.
type Constants<'a> = BTreeMap<String, Vec<(&'a str, &'a Expr)>>;

/// What the table says of one name.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    name: String,
    value: Option<Value>,
}

const SECOND: u128 = 1_000_000_000;
/// Units of times, and of bytes; and the words for parts.
const TIMES: &[(&str, u128)] = &[
    ("ms", SECOND / 1_000),
    ("s", SECOND),
    ("min", 60 * SECOND),
    ("hours", 3_600 * SECOND),
    ("days", 86_400 * SECOND),
];
const BYTES: &[(&str, u128)] = &[("KiB", 1_024), ("MiB", 1_024 * 1_024)];
const PARTS: &[(&str, u128)] = &[("half", 2), ("quarter", 4), ("eighth", 8)];

fn of<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

/// The value that a text begins with: `1,024`, `16 KiB`, `5 s`, `: an eighth`.
fn value(text: &str) -> Option<Value> {
    let mut words = text.trim_start_matches(':').split_whitespace().peekable();
    words.next_if(|word| ["a", "an"].contains(word));
    let bare = |word: &str| word.trim_matches([',', ';', '.', '(', ')']).replace(',', "");
    let first = bare(words.next()?);
    if let Some(part) = of(PARTS, &first) {
        return Some(Value::Number(part));
    }
    let number: u128 = first.parse().ok()?;
    let unit = words.next().map(bare).unwrap_or_default();
    Some(match (of(TIMES, &unit), of(BYTES, &unit)) {
        (Some(unit), _) => Value::Time(number * unit),
        (None, unit) => Value::Number(number * unit.unwrap_or(1)),
    })
}

/// What stands in backticks, and what comes behind each up to the next.
fn marked(text: &str) -> Vec<(&str, &str)> {
    let mut parts = text.split('`').skip(1);
    let mut marked = Vec::new();
    while let (Some(name), Some(behind)) = (parts.next(), parts.next()) {
        marked.push((name, behind));
    }
    marked
}

fn is_constant(name: &str) -> bool {
    name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// The constants of all that the server is made of, those of blocks too.
fn constants(sources: &[(String, Source)]) -> Constants<'_> {
    let mut found = Constants::new();
    let others = ["client/", "bench/", "server/src/world/"];
    for (path, source) in
        sources.iter().filter(|(path, _)| !others.iter().any(|of| path.starts_with(of)))
    {
        let mut keep = |name: &syn::Ident, expr| {
            found.entry(name.to_string()).or_default().push((path.as_str(), expr));
        };
        for item in &source.file.items {
            match item {
                Item::Const(item) => keep(&item.ident, &*item.expr),
                Item::Impl(block) => block.items.iter().for_each(|item| {
                    if let ImplItem::Const(item) = item {
                        keep(&item.ident, &item.expr);
                    }
                }),
                _ => {}
            }
        }
    }
    found
}

/// What an expression in this file is; nothing, if that cannot be read here.
fn values(expr: &Expr, path: &str, all: &Constants) -> Option<Vec<Value>> {
    let one = |expr: &Expr| match values(expr, path, all)?.as_slice() {
        [value] => Some(*value),
        _ => None,
    };
    let number = |expr: &Expr| match one(expr)? {
        Value::Number(number) | Value::Time(number) => Some(number),
    };
    Some(vec![match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Value::Number(number.base10_parse().ok()?),
            _ => return None,
        },
        Expr::Paren(inner) => one(&inner.expr)?,
        Expr::Cast(cast) => one(&cast.expr)?,
        Expr::Binary(binary) => {
            let (left, right) = (number(&binary.left)?, number(&binary.right)?);
            Value::Number(match binary.op {
                BinOp::Mul(_) => left * right,
                BinOp::Add(_) => left + right,
                BinOp::Div(_) => left / right,
                _ => return None,
            })
        }
        Expr::Path(named) => {
            let name = named.path.segments.last()?.ident.to_string();
            let known = all.get(&name)?;
            let here = known.iter().find(|(file, _)| *file == path).or(known.first())?;
            one(here.1)?
        }
        Expr::MethodCall(call) if call.method == "as_secs" => {
            Value::Number(number(&call.receiver)? / SECOND)
        }
        Expr::Call(call) => {
            let Expr::Path(made) = &*call.func else { return None };
            let unit = match made.path.segments.last()?.ident.to_string().as_str() {
                "from_secs" => SECOND,
                "from_millis" => SECOND / 1_000,
                _ => return None,
            };
            Value::Time(number(call.args.first()?)? * unit)
        }
        Expr::Struct(made) => {
            let fields = made.fields.iter().filter_map(|field| values(&field.expr, path, all));
            return Some(fields.flatten().collect());
        }
        _ => return None,
    }])
}

/// Whether a constant is what is said of it. One whose name has its unit is a number.
fn fits(is: Value, said: Value) -> bool {
    match (is, said) {
        (Value::Number(is), Value::Time(said)) => is * SECOND == said,
        (is, said) => is == said,
    }
}

/// What is wrong with what a row says of a constant.
fn amiss(row: &str, said: &Said, all: &Constants) -> Option<String> {
    let Some(known) = all.get(&said.name) else { return Some("there is none".to_owned()) };
    let Some(value) = said.value else { return Some("no value behind it".to_owned()) };
    let named = marked(row).into_iter().map(|(path, _)| path).filter(|path| path.ends_with(".rs"));
    let named: Vec<&str> = named.collect();
    let in_named = |path: &str| named.iter().any(|end| is_end(path, end));
    let mut meant: Vec<_> = known.iter().filter(|(path, _)| in_named(path)).collect();
    if meant.is_empty() {
        meant = known.iter().collect();
    }
    let read: Vec<_> = meant.iter().map(|(path, expr)| values(expr, path, all)).collect();
    let fitting = read
        .iter()
        .filter(|read| read.as_ref().is_some_and(|read| read.iter().any(|is| fits(*is, value))));
    match fitting.count() {
        0 => Some(format!("it is {read:?}, and said to be {value:?}")),
        count if count < meant.len() => Some("there are several: say in which file".to_owned()),
        _ => None,
    }
}

/// Whether a path ends with this, by whole names.
fn is_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

fn document() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join("docs/architecture.md")).unwrap()
}

/// The rows of the table.
fn rows(document: &str) -> Vec<&str> {
    let behind = document.split_once("| what | name | when it is reached |\n|---|---|---|\n");
    let table = behind.unwrap().1;
    table.lines().take_while(|line| line.starts_with("| ")).collect()
}

#[test]
fn bounds_are_what_the_document_says() {
    let (document, sources) = (document(), sizes::all());
    let all = constants(&sources);
    let (mut wrong, mut read) = (Vec::new(), 0);
    for row in rows(&document) {
        assert_eq!(row.matches(" | ").count(), 2, "{row}");
        for (name, behind) in marked(row).into_iter().filter(|(name, _)| is_constant(name)) {
            let said = Said { name: name.to_owned(), value: value(behind) };
            read += 1;
            wrong.extend(amiss(row, &said, &all).map(|amiss| format!("  {name}: {amiss}")));
        }
    }
    assert!(read > 100, "{read}");
    assert!(wrong.is_empty(), "bounds in docs/architecture.md:\n{}", wrong.join("\n"));
}

/// A setting is named with its section, the next ones of the same without.
#[test]
fn settings_that_bound_are_there() {
    let document = document();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/imppd.toml");
    let default = std::fs::read_to_string(file).unwrap();
    let mut known: Vec<String> = Vec::new();
    let mut section = "";
    for line in default.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
        } else if let Some((name, _)) = line.split_once(" = ") {
            known.push(format!("{section}.{name}"));
        }
    }
    let (mut wrong, mut read) = (Vec::new(), 0);
    for row in rows(&document) {
        let mut section = "";
        for (name, _) in marked(row) {
            let is_word = name.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c));
            if !is_word || name.ends_with(".rs") || name.starts_with("impp_") {
                continue;
            }
            let whole = match name.split_once('.') {
                Some((of, _)) => {
                    section = of;
                    name.to_owned()
                }
                None if name.contains('_') => format!("{section}.{name}"),
                None => continue,
            };
            read += 1;
            if !known.contains(&whole) {
                wrong.push(whole);
            }
        }
    }
    assert!(read > 40, "{read}");
    assert_eq!(wrong, [""; 0], "settings in docs/architecture.md that are none");
}

/// What the document names is there.
#[test]
fn files_that_the_document_names_are_there() {
    let (document, sources) = (document(), sizes::all());
    let named: Vec<&str> = marked(&document)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|n| n.ends_with(".rs"))
        .collect();
    assert!(named.len() > 100, "{}", named.len());
    let is_there = |end: &&&str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        sources.iter().any(|(path, _)| is_end(path, end)) || root.join(end).exists()
    };
    let missing: Vec<&&str> = named.iter().filter(|end| !is_there(end)).collect();
    assert!(missing.is_empty(), "files in docs/architecture.md that are none: {missing:?}");
}

#[test]
fn what_is_said_is_read() {
    let time = |seconds| Some(Value::Time(seconds * SECOND));
    let number = |number| Some(Value::Number(number));
    for (text, wanted) in [
        (" 1,024 a listener", number(1024)),
        (" 16 KiB (", number(16 * 1024)),
        (": an eighth; as many again", number(8)),
        (" 5 s, and of requests", time(5)),
        (" 24 hours (", time(86_400)),
        (" and those in ", None),
    ] {
        assert_eq!(value(text), wanted, "{text}");
    }
    let (seven, all): (Expr, _) = (syn::parse_str("7 * DAY.as_secs()").unwrap(), "60 * 60 * 24");
    let day: Expr = syn::parse_str(&format!("Duration::from_secs({all})")).unwrap();
    let all = Constants::from([
        ("DAY".to_owned(), vec![("a/b.rs", &day)]),
        ("WEEK".to_owned(), vec![("a/b.rs", &seven), ("a/c.rs", &day)]),
    ]);
    let said = |name: &str, value| Said { name: name.to_owned(), value };
    assert_eq!(amiss("`DAY` 1 days", &said("DAY", time(86_400)), &all), None);
    assert!(amiss("`DAY` 1 days", &said("DAY", time(86_401)), &all).is_some());
    assert!(amiss("`DAY`", &said("DAY", None), &all).is_some());
    assert!(amiss("`NIGHT` 1 s", &said("NIGHT", time(1)), &all).is_some());
    // Of two it has to say which.
    let week = said("WEEK", number(7 * 86_400));
    assert!(amiss("`WEEK` 604,800", &week, &all).is_some());
    assert_eq!(amiss("`WEEK` 604,800 (`b.rs`)", &week, &all), None);
    assert!(amiss("`WEEK` 604,800 (`c.rs`)", &week, &all).is_some());
}
