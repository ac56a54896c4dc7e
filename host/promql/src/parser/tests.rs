//! What parses to what, and which mistakes are named how.

use crate::{ExprKind, parse};

#[track_caller]
fn same(text: &str, other: &str) {
    let (one, two) = (parse(text).expect("parses"), parse(other).expect("parses"));
    let strip = |expr: &crate::Expr| expr.to_string().replace(['(', ')'], "");
    assert_eq!(strip(&one), strip(&two));
    assert_eq!(
        without_parens(text),
        without_parens(other),
        "{text} is not {other}"
    );
}

/// The structure as the Debug form shows it, without parentheses and positions.
fn without_parens(text: &str) -> String {
    fn write(expr: &crate::Expr, out: &mut String) {
        match &expr.kind {
            ExprKind::Paren(inner) => write(inner, out),
            ExprKind::Binary(binary) => {
                out.push('[');
                write(&binary.lhs, out);
                out.push_str(binary.op.as_str());
                write(&binary.rhs, out);
                out.push(']');
            }
            ExprKind::Unary(op, inner) => {
                out.push_str(&format!("[{op:?}"));
                write(inner, out);
                out.push(']');
            }
            _ => out.push_str(&expr.to_string()),
        }
    }
    let mut out = String::new();
    write(&parse(text).expect("parses"), &mut out);
    out
}

#[track_caller]
fn fails(text: &str, message: &str) {
    let error = parse(text).expect_err("should not parse");
    assert_eq!(error.to_string(), message, "{text}");
}

#[test]
fn operators_bind_as_in_prometheus() {
    same("1 + 2 * 3 ^ 4 ^ 5", "1 + (2 * (3 ^ (4 ^ 5)))");
    same("1 - 2 - 3", "(1 - 2) - 3");
    same("-2 ^ 2", "-(2 ^ 2)");
    same("-2 * 3", "(-2) * 3");
    same("2 ^ -1 * 3", "(2 ^ (-1)) * 3");
    same("a or b and c unless d", "a or ((b and c) unless d)");
    same("a > b + 1 or c", "(a > (b + 1)) or c");
    same("a offset 2 ^ 2", "(a offset 2) ^ 2");
}

#[test]
fn every_part_knows_where_it_stands() {
    let text = "sum(rate(x[5m])) / 2";
    let expr = parse(text).expect("parses");
    let ExprKind::Binary(binary) = &expr.kind else {
        panic!("a division");
    };
    assert_eq!(expr.span.of(text), text);
    assert_eq!(binary.lhs.span.of(text), "sum(rate(x[5m]))");
    let ExprKind::Aggregate(sum) = &binary.lhs.kind else {
        panic!("a sum");
    };
    assert_eq!(sum.expr.span.of(text), "rate(x[5m])");
    assert_eq!(binary.rhs.span.of(text), "2");
}

#[test]
fn keywords_can_be_names_where_nothing_else_can_stand() {
    for text in [
        "sum",
        "by",
        "fill + fill(0) fill",
        "offset offset 5m",
        "x{by=\"1\", on!=\"2\"}",
        "sum by (by, on) (without)",
        "start @ start()",
        "{\"my.metric\", \"a.b\"=~\"c\"}",
        "anchored[5m] anchored",
    ] {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn mistakes_are_named_with_their_position() {
    fails("", "1:1: unexpected end of input, expected an expression");
    fails(
        "1 +",
        "1:4: unexpected end of input, expected an expression",
    );
    fails(
        "up{job=\"a\"",
        "1:11: unexpected end of input, expected \",\" or \"}\" in the braces opened at 1:3",
    );
    fails(
        "up{job=a}",
        "1:8: unexpected \"a\", expected a label value in quotes",
    );
    fails(
        "foo bar",
        "1:5: unexpected \"bar\", expected an operator or the end of the query",
    );
    fails("fop(x)", "1:1: unknown function with name \"fop\"");
    fails(
        "rate(x)",
        "1:6: expected type range vector in call to function \"rate\", got instant vector",
    );
    fails(
        "sum(1)",
        "1:5: expected type instant vector in aggregation expression \"sum\", got scalar",
    );
    fails(
        "1 < 2",
        "1:3: comparisons between scalars must use BOOL modifier",
    );
    fails(
        "x and 1",
        "1:3: set operator \"and\" not allowed in binary scalar expression",
    );
    fails(
        "x{a=~\"(\"}",
        "1:6: \"(\" is not a regular expression that can be used: regex parse error:\n    (\n    ^\n\
         error: unclosed group",
    );
    fails(
        "{a=\"\"}",
        "1:1: vector selector must contain at least one non-empty matcher",
    );
    fails(
        "x[0s]",
        "1:3: duration must be greater than 0 in a range, got 0s",
    );
    fails(
        "sum(x) offset 5m",
        "1:8: offset modifier must be preceded by an instant vector selector or range vector \
         selector or a subquery",
    );
    fails(
        "x\n  [5m",
        "2:6: unexpected end of input, expected \"]\" or \":\" after a range",
    );
}

#[test]
fn nesting_is_refused_before_the_stack_ends() {
    let nested =
        |open: &str, close: &str, count| format!("{}x{}", open.repeat(count), close.repeat(count));
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("abs(", ")"),
        ("sum(", ")"),
        ("", "[1h:1m]"),
    ] {
        let error = parse(&nested(open, close, 10_000)).expect_err("too deep");
        let is_named = error.message.contains("nests deeper than")
            || error.message.contains("the query has")
            || error.message.contains("subquery is only allowed");
        assert!(is_named, "{error}");
    }
    let chain = vec!["x"; 10_000].join(" or ");
    let error = parse(&chain).expect_err("too deep");
    assert!(error.message.contains("nests deeper than"), "{error}");
    let error = parse(&format!("x[{}1]", "(".repeat(5000))).expect_err("too deep");
    assert!(error.message.contains("nests deeper than"), "{error}");
}

#[test]
fn a_query_that_is_too_long_is_not_read() {
    let error = parse(&" ".repeat(crate::QUERY_MAX_BYTES + 1)).expect_err("too long");
    assert!(error.message.contains("at most 65536"), "{error}");
}
