//! What a billing rule is asked and answers. See `wit/billing-rule.wit`.

use shoal_model::money::{Decimal, DecimalError};
use shoal_model::usage::{Meter, MonthUsage};

use crate::bindings::exports::shoal::plugin::billing_rule as wit;
use crate::call::cut;

const LINES_MAX: usize = 1000;
const DESCRIPTION_MAX_BYTES: usize = 500;

/// What was agreed with a tenant; prices and allowances are the rule's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// ISO 4217 code, such as `JPY`.
    pub currency: String,
    /// Digits after the point that an amount may have: 0 for JPY, 2 for USD; at most 9.
    pub currency_digits: u8,
}

/// A rule's priced answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// At most 1,000, in the rule's order.
    pub lines: Vec<StatementLine>,
    /// Their amounts, summed by the host.
    pub total: Decimal,
}

/// One line of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// For people, at most 500 bytes.
    pub description: String,
    /// The meter that it prices; `None` for fixed fees.
    pub meter: Option<Meter>,
    /// How many units.
    pub quantity: Decimal,
    /// Price of one unit.
    pub unit_price: Decimal,
    /// `quantity` times `unit_price`, rounded half up to the currency's digits; checked by the host.
    pub amount: Decimal,
}

impl Terms {
    pub(crate) fn to_wit(&self, settings: &str) -> wit::Terms {
        wit::Terms {
            currency: self.currency.clone(),
            currency_digits: self.currency_digits,
            settings: settings.to_owned(),
        }
    }
}

/// The usage as a rule sees it.
pub(crate) fn usage_to_wit(usage: &MonthUsage) -> wit::Usage {
    let month = usage.month;
    wit::Usage {
        period: wit::Period {
            from_unix_ms: month.first_hour().start().unix_ms(),
            to_unix_ms: month.next().first_hour().start().unix_ms(),
            hours: month.hours(),
            closed_hours: usage.closed_hours,
        },
        meters: usage
            .meters
            .iter()
            .map(|(meter, subjects)| wit::MeterUsage {
                meter: meter.as_str().to_owned(),
                subjects: subjects
                    .iter()
                    .map(|(subject, of)| wit::SubjectUsage {
                        subject: subject.clone(),
                        active_hours: of.active_hours,
                        quantity_hours: of.quantity_hours,
                    })
                    .collect(),
            })
            .collect(),
    }
}

impl Statement {
    /// Takes what a plugin answered, checks each product and sums up.
    pub(crate) fn from_wit(statement: wit::Statement, terms: &Terms) -> Result<Statement, String> {
        if statement.lines.len() > LINES_MAX {
            return Err(format!(
                "{} lines where {LINES_MAX} are the most",
                statement.lines.len()
            ));
        }
        let mut total = Decimal::ZERO;
        let mut lines = Vec::with_capacity(statement.lines.len());
        for (i, line) in statement.lines.into_iter().enumerate() {
            let line = checked(line, terms).map_err(|e| format!("line {}: {e}", i + 1))?;
            total = total.add(line.amount).map_err(|e| e.to_string())?;
            lines.push(line);
        }
        Ok(Statement { lines, total })
    }
}

fn checked(line: wit::Line, terms: &Terms) -> Result<StatementLine, String> {
    let meter = match line.meter.as_str() {
        "" => None,
        name => Some(name.parse::<Meter>().map_err(|e| e.to_string())?),
    };
    let decimal = |what: &str, d: wit::Decimal| {
        Decimal::from_parts(d.units, d.nanos).map_err(|e: DecimalError| format!("{what}: {e}"))
    };
    let quantity = decimal("quantity", line.quantity)?;
    let unit_price = decimal("unit-price", line.unit_price)?;
    let amount = decimal("amount", line.amount)?;
    let product = quantity
        .multiply(unit_price, terms.currency_digits)
        .map_err(|e| format!("amount: {e}"))?;
    if product != amount {
        return Err(format!(
            "amount {amount} is not {quantity} times {unit_price} rounded to {} digits, {product}",
            terms.currency_digits
        ));
    }
    Ok(StatementLine {
        description: cut(line.description, DESCRIPTION_MAX_BYTES),
        meter,
        quantity,
        unit_price,
        amount,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: (i64, i32), price: i64, amount: i64) -> wit::Line {
        wit::Line {
            description: "standard hosts".into(),
            meter: "host.standard".into(),
            quantity: wit::Decimal {
                units: quantity.0,
                nanos: quantity.1,
            },
            unit_price: wit::Decimal {
                units: price,
                nanos: 0,
            },
            amount: wit::Decimal {
                units: amount,
                nanos: 0,
            },
        }
    }

    fn taken(lines: Vec<wit::Line>) -> Result<Statement, String> {
        let terms = Terms {
            currency: "JPY".into(),
            currency_digits: 0,
        };
        Statement::from_wit(wit::Statement { lines }, &terms)
    }

    #[test]
    fn the_host_sums_the_lines_up() {
        let half = 500_000_000;
        let statement = taken(vec![line((6, 0), 1833, 10_998), line((0, half), 1833, 917)]);
        assert_eq!(statement.expect("kept").total, Decimal::from_units(11_915));
    }

    #[test]
    fn a_wrong_product_is_refused_by_line() {
        let error = taken(vec![line((6, 0), 1833, 10_998), line((1, 0), 2, 3)]).expect_err("wrong");
        assert_eq!(
            error,
            "line 2: amount 3 is not 1 times 2 rounded to 0 digits, 2"
        );
        let error = taken(vec![line((1, -1), 2, 2)]).expect_err("no number");
        assert!(error.starts_with("line 1: quantity: "), "{error}");
        let mut odd = line((1, 0), 2, 2);
        odd.meter = "host.big".into();
        assert!(taken(vec![odd]).expect_err("no meter").contains("host.big"));
    }
}
