//! How answers are printed: JSON as it came, or lines that a person reads. stdout only.

use serde_json::Value;

/// Prints an answer.
pub(crate) fn print(value: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
        return Ok(());
    }
    match rows(value) {
        Some(list) if list.iter().all(Value::is_object) => table(list),
        _ => fields(value, ""),
    }
    if let Some(next) = value.get("next").and_then(Value::as_str) {
        eprintln!("more: --cursor {next}");
    }
    Ok(())
}

/// What an answer may say beside its list without being about anything else.
const PAGING: [&str; 3] = ["next", "previous", "as_of"];

/// The list in an answer: itself, or the one member that it is about.
fn rows(value: &Value) -> Option<&Vec<Value>> {
    if let Value::Array(list) = value {
        return Some(list);
    }
    let mut members = value.as_object()?.iter().filter(|(name, _)| !PAGING.contains(&name.as_str()));
    let (_, only) = members.next()?;
    if members.next().is_none() { only.as_array() } else { None }
}

/// Money as `12.34 CNY`, lists and objects compactly, the rest as it is.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        Value::Object(object) => match (object.get("amount"), object.get("currency")) {
            (Some(Value::String(amount)), Some(Value::String(currency))) => format!("{amount} {currency}"),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

fn fields(value: &Value, indent: &str) {
    let Value::Object(object) = value else {
        println!("{indent}{}", cell(value));
        return;
    };
    let width = object.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in object {
        match value {
            Value::Object(inner) if !inner.contains_key("amount") => {
                println!("{indent}{name}");
                fields(value, &format!("{indent}  "));
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                println!("{indent}{name}");
                table(list);
            }
            _ => println!("{indent}{name:width$}  {}", cell(value)),
        }
    }
}

fn table(list: &[Value]) {
    let mut columns: Vec<&str> = Vec::new();
    for object in list.iter().filter_map(Value::as_object) {
        for name in object.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let mut lines = vec![columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    for object in list.iter().filter_map(Value::as_object) {
        lines.push(columns.iter().map(|name| object.get(*name).map_or_else(String::new, cell)).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            lines.iter().filter_map(|line| line.get(at)).map(|text| text.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}", width = *width)).collect();
        println!("{}", padded.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_is_its_list_and_what_says_more_is_not() {
        let list = json!([{"a": 1}]);
        assert!(rows(&list).is_some());
        assert!(rows(&json!({"entries": list, "next": "7", "as_of": 9})).is_some());
        assert!(rows(&json!({"status": "ok", "machine": "a", "branches": list})).is_none());
        assert!(rows(&json!({"branch": 1, "rotations": []})).is_none());
    }

    #[test]
    fn members_stay_in_the_order_of_the_answer() {
        let answer: Value = serde_json::from_str(r#"{"head": 1001, "name": "Cash", "branch": 1}"#).unwrap();
        let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(names, ["head", "name", "branch"]);
    }
}
