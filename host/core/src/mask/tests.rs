use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::{ErrorCode, LogLevel, SourcePosition};

fn mask(secrets: &[(&str, &str)]) -> SecretMask {
    let secrets: Vec<_> = secrets
        .iter()
        .map(|(name, value)| {
            (SecretName::new(*name).unwrap(), SecretValue::new(value.as_bytes().to_vec()).unwrap())
        })
        .collect();
    SecretMask::new(secrets.iter().map(|(name, value)| (name, value)))
}

fn logs(lines: &[&str], truncated: bool) -> Logs {
    let line =
        |text: &&str| LogLine { level: LogLevel::Info, message: (*text).to_owned(), at: Duration::ZERO };
    Logs { lines: lines.iter().map(line).collect(), truncated }
}

fn messages(logs: &Logs) -> Vec<&str> {
    logs.lines.iter().map(|line| &*line.message).collect()
}

#[test]
fn every_form_of_a_value_is_masked() {
    let mask = mask(&[("key", "s3cr\"t/ é+\\x")]);
    let forms = [
        "s3cr\"t/ é+\\x",
        "czNjciJ0LyDDqStceA==",
        "czNjciJ0LyDDqStceA",
        "733363722274 2f20c3a92b5c78",
        "733363722274 2F20C3A92B5C78",
        "s3cr%22t%2F%20%C3%A9%2B%5Cx",
        "s3cr%22t%2f%20%c3%a9%2b%5cx",
        "s3cr%22t%2F+%C3%A9%2B%5Cx",
        "s3cr\\\"t/ é+\\\\x",
        "s3cr\\\"t\\/ é+\\\\x",
        "s3cr\\\\\\\"t/ é+\\\\\\\\x",
        "s3cr\\\"t/ \\u00e9+\\\\x",
        "s3cr\\\"t/ \\u00E9+\\\\x",
    ];
    for form in forms.map(|form| form.replace("74 2", "742")) {
        assert_eq!(mask.text(&form), "[secret key]", "{form}");
        assert_eq!(mask.text(&format!("a {form} b {form}")), "a [secret key] b [secret key]");
    }
    assert_eq!(mask.text("nothing of it"), "nothing of it");
}

#[test]
fn base64_of_a_longer_text_shows_no_more_than_a_character_of_the_value() {
    let mask = mask(&[("key", "correct-horse")]);
    for before in ["", "a", "ab", "abc", "user:"] {
        for after in ["", "!", "!!", "!!!"] {
            let masked = mask.text(&STANDARD.encode(format!("{before}correct-horse{after}"))).into_owned();
            assert!(masked.contains("[secret key]"), "{before}{after}: {masked}");
        }
    }
}

#[test]
fn short_values_are_not_masked() {
    let mask = mask(&[("short", "seven77"), ("long", "eight888")]);
    assert_eq!(mask.text("seven77 eight888"), "seven77 [secret long]");
    assert_eq!(SecretMask::default().text("eight888"), "eight888");
}

#[test]
fn values_that_overlap_leave_nothing() {
    let mask = mask(&[("a", "abcdefgh"), ("b", "efghijkl"), ("c", "abcdefghijklmnop")]);
    assert_eq!(mask.text("-abcdefghijkl-"), "-[secret a]-");
    assert_eq!(mask.text("-abcdefghijklmnop-"), "-[secret c]-");
    assert_eq!(mask.text("abcdefghabcdefgh"), "[secret a][secret a]");
}

#[test]
fn a_long_value_is_masked_only_as_a_whole() {
    let value = "0123456789".repeat(1_000);
    let mask = mask(&[("long", &value)]);
    assert_eq!(mask.text(&format!("<{value}>")), "<[secret long]>");
    let part = &value[..9_999];
    assert_eq!(mask.text(part), part);
}

#[test]
fn a_value_over_several_lines_is_masked() {
    let mask = mask(&[("key", "correct-horse")]);
    let mut split = logs(&["a correct", "-ho", "rse b", "c"], false);
    mask.logs(&mut split, 1_000, 16);
    assert_eq!(messages(&split), ["a [secret key]", "", " b", "c"]);
    let mut apart = logs(&["correct", "something", "-horse"], false);
    mask.logs(&mut apart, 1_000, 16);
    assert_eq!(messages(&apart), ["correct", "something", "-horse"], "documented: this is not found");
}

#[test]
fn what_was_cut_shows_no_beginning_of_a_value() {
    let mask = mask(&[("key", "correct-horse")]);
    let mut cut = logs(&["one", "two corr"], true);
    mask.logs(&mut cut, 1_000, 16);
    assert_eq!(messages(&cut), ["one", "two [secret key]"]);
    let mut whole = logs(&["one", "two corr"], false);
    mask.logs(&mut whole, 1_000, 16);
    assert_eq!(messages(&whole), ["one", "two corr"]);

    let position = SourcePosition {
        script: "s".into(),
        line: 1,
        column: 1,
        source_line: format!("{}correct-h", "x".repeat(191)),
    };
    let message = format!("{}correct-ho…", "x".repeat(CUT_MESSAGE_BYTES - 10));
    let mut fault = Fault { code: ErrorCode::ScriptError, message, position: Some(position) };
    mask.fault(&mut fault);
    assert!(fault.message.ends_with("x[secret key]…"), "{}", fault.message);
    assert!(fault.position.unwrap().source_line.ends_with("x[secret key]"));
}

#[test]
fn marks_do_not_make_a_log_longer_than_its_limit() {
    let mask = mask(&[("a-rather-long-name-of-a-secret", "eight888")]);
    let mut long = logs(&[&"eight888".repeat(100), "next"], false);
    mask.logs(&mut long, 1_000, 16);
    assert!(long.truncated);
    let bytes: usize = long.lines.iter().map(|line| line.message.len() + 16).sum();
    assert!(bytes <= 1_000, "{bytes}");
    assert!(!messages(&long).concat().contains("eight888"));
}

#[test]
fn hostile_values_take_linear_time() {
    let values: Vec<(String, String)> =
        (8..100).map(|length| (format!("s{length}"), "a".repeat(length * length))).collect();
    let secrets: Vec<(&str, &str)> = values.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mask = mask(&secrets);
    let text = format!("{}b", "a".repeat(1 << 18));
    let started = Instant::now();
    let masked = mask.text(&text);
    assert!(
        masked.starts_with("[secret ") && masked.ends_with('b') && masked.len() < 100,
        "{}",
        masked.len()
    );
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn no_text_keeps_a_value(value in "[ab]{8,12}", before in "[ab]{0,12}", after in "[ab]{0,12}") {
        let mask = mask(&[("Z", &value)]);
        let masked = mask.text(&format!("{before}{value}{after}")).into_owned();
        prop_assert!(masked.contains("[secret Z]") && !masked.contains(&value), "{masked}");
    }

    #[test]
    fn lines_are_masked_as_their_text_is(
        value in "[ab]{8,10}",
        lines in prop::collection::vec("[abé]{0,9}", 0..6),
    ) {
        let mask = mask(&[("Z", &value)]);
        let lines: Vec<&str> = lines.iter().map(|line| &**line).collect();
        let mut logged = logs(&lines, false);
        mask.logs(&mut logged, 1 << 20, 16);
        prop_assert_eq!(messages(&logged).concat(), mask.text(&lines.concat()).into_owned());
    }
}
