//! One append as bytes: new series, usage, samples.
//!
//! Records name series by their place in the tenant's table. A series is defined in the log again after every flush,
//! because a flush gives the space of earlier definitions away.
//!
//! [`Record`] is what is written. [`LoggedRecord`] is what is read: its texts stay where they lie, because a replay
//! keeps one of each and meets them a million times.

use std::ops::Range;
use std::sync::Arc;

use shoal_model::labels::Labels;
use shoal_model::telemetry::MetricKind;
use shoal_model::time::Hour;
use shoal_model::usage::{Meter, Owner, Usage};
use shoal_model::{TenantId, Timestamp};

use crate::codec::{Malformed, Reader, put_signed, put_text, put_varint};

/// One append.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) tenant: TenantId,
    pub(crate) received: Timestamp,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) usage: Vec<Usage>,
    /// Places in the tenant's table, one per sample.
    pub(crate) slots: Vec<u32>,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// What a place in the tenant's table of series means from here on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) slot: u32,
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    pub(crate) owner: Option<Owner>,
}

/// One append, read from the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoggedRecord<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) received: Timestamp,
    pub(crate) definitions: Vec<LoggedDefinition<'a>>,
    /// Of all definitions, one after the other.
    labels: Vec<LoggedLabel<'a>>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) slots: Vec<u32>,
    pub(crate) times_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// The name and value of a label in the log.
pub(crate) type LoggedLabel<'a> = (&'a str, &'a str);

/// A definition read from the log; see [`LoggedRecord::labels`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoggedDefinition<'a> {
    pub(crate) slot: u32,
    pub(crate) kind: MetricKind,
    pub(crate) unit: &'a str,
    pub(crate) owner: LoggedOwner<'a>,
    labels: Range<usize>,
}

/// Whose usage a series is, as a number for the sort and a name; the name of nobody is empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoggedOwner<'a> {
    sort: u8,
    subject: &'a str,
}

impl Record {
    /// Appends the record's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_signed(out, self.tenant.0);
        put_signed(out, self.received.0);
        put_varint(out, self.definitions.len() as u64);
        for definition in &self.definitions {
            definition.encode(out);
        }
        encode_usage(&self.usage, out);
        put_varint(out, self.slots.len() as u64);
        let mut before = 0i64;
        for slot in &self.slots {
            put_signed(out, i64::from(*slot) - before);
            before = i64::from(*slot);
        }
        let mut before = self.received.0;
        for time in &self.times_ms {
            put_signed(out, time.wrapping_sub(before));
            before = *time;
        }
        for value in &self.values {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

impl Definition {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.slot));
        out.push(self.kind as u8);
        put_text(out, &self.unit);
        let owner = LoggedOwner::of(self.owner.as_ref());
        out.push(owner.sort);
        put_text(out, owner.subject);
        put_varint(out, self.labels.len() as u64);
        for label in &self.labels {
            put_text(out, &label.name);
            put_text(out, &label.value);
        }
    }
}

impl<'a> LoggedRecord<'a> {
    /// Reads one record.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<LoggedRecord<'a>, Malformed> {
        let tenant = TenantId(reader.signed()?);
        let received = Timestamp(reader.signed()?);
        let mut labels = Vec::new();
        let definitions = (0..reader.len(5)?)
            .map(|_| LoggedDefinition::decode(reader, &mut labels))
            .collect::<Result<_, _>>()?;
        let usage = decode_usage(reader)?;
        let samples = reader.len(10)?;
        let mut before = 0i64;
        let mut slots = Vec::with_capacity(samples);
        for _ in 0..samples {
            before = before.wrapping_add(reader.signed()?);
            slots.push(u32::try_from(before).map_err(|_| Malformed("a series is out of range"))?);
        }
        let mut before = received.0;
        let mut times_ms = Vec::with_capacity(samples);
        for _ in 0..samples {
            before = before.wrapping_add(reader.signed()?);
            times_ms.push(before);
        }
        let mut values = Vec::with_capacity(samples);
        for _ in 0..samples {
            values.push(f64::from_bits(reader.u64()?));
        }
        Ok(LoggedRecord {
            tenant,
            received,
            definitions,
            labels,
            usage,
            slots,
            times_ms,
            values,
        })
    }

    /// The labels of one of its definitions, sorted by name, each name once, no value empty.
    pub(crate) fn labels(&self, definition: &LoggedDefinition<'_>) -> &[LoggedLabel<'a>] {
        &self.labels[definition.labels.clone()]
    }
}

impl<'a> LoggedDefinition<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        labels: &mut Vec<LoggedLabel<'a>>,
    ) -> Result<LoggedDefinition<'a>, Malformed> {
        let slot = reader.varint_u32()?;
        let kind = MetricKind::from_number(reader.u8()?)
            .ok_or(Malformed("the kind of a metric is unknown"))?;
        let unit = reader.text()?;
        let owner = LoggedOwner {
            sort: reader.u8()?,
            subject: reader.text()?,
        };
        if owner.sort > NOBODY {
            return Err(Malformed("the sort of an owner is unknown"));
        }
        let begin = labels.len();
        for _ in 0..reader.len(2)? {
            labels.push((reader.text()?, reader.text()?));
        }
        let own = &labels[begin..];
        if !own.is_sorted_by(|a, b| a.0 < b.0) || own.iter().any(|(_, value)| value.is_empty()) {
            return Err(Malformed("the labels of a series are no set"));
        }
        Ok(LoggedDefinition {
            slot,
            kind,
            unit,
            owner,
            labels: begin..labels.len(),
        })
    }
}

/// The sort of those who have no owner.
const NOBODY: u8 = 3;

impl<'a> LoggedOwner<'a> {
    fn of(owner: Option<&'a Owner>) -> LoggedOwner<'a> {
        let (sort, subject) = match owner {
            Some(Owner::StandardHost(subject)) => (0, subject.as_str()),
            Some(Owner::MicroHost(subject)) => (1, subject.as_str()),
            Some(Owner::Service(subject)) => (2, subject.as_str()),
            None => (NOBODY, ""),
        };
        LoggedOwner { sort, subject }
    }

    /// Whether it is this one.
    pub(crate) fn is(self, owner: Option<&Owner>) -> bool {
        self == LoggedOwner::of(owner)
    }

    pub(crate) fn to_owner(self) -> Option<Owner> {
        let subject = self.subject.to_owned();
        match self.sort {
            0 => Some(Owner::StandardHost(subject)),
            1 => Some(Owner::MicroHost(subject)),
            2 => Some(Owner::Service(subject)),
            _ => None,
        }
    }
}

/// Elements of one hour, meter and subject follow each other and share those.
fn encode_usage(usage: &[Usage], out: &mut Vec<u8>) {
    let key = |element: &Usage| (element.hour, element.meter);
    let groups = || usage.chunk_by(|a, b| key(a) == key(b) && a.subject == b.subject);
    put_varint(out, groups().count() as u64);
    for group in groups() {
        put_signed(out, group[0].hour.0);
        out.push(meter_number(group[0].meter));
        put_text(out, &group[0].subject);
        put_varint(out, group.len() as u64);
        for element in group {
            out.extend_from_slice(&element.member.to_le_bytes());
        }
    }
}

fn decode_usage(reader: &mut Reader<'_>) -> Result<Vec<Usage>, Malformed> {
    let mut usage = Vec::new();
    for _ in 0..reader.len(4)? {
        let hour = Hour(reader.signed()?);
        let meter = meter_of(reader.u8()?)?;
        let subject = reader.text()?;
        for _ in 0..reader.len(8)? {
            usage.push(Usage {
                hour,
                meter,
                subject: subject.to_owned(),
                member: reader.u64()?,
            });
        }
    }
    Ok(usage)
}

fn meter_number(meter: Meter) -> u8 {
    match meter {
        Meter::HostStandard => 0,
        Meter::HostMicro => 1,
        Meter::MetricStandard => 2,
        Meter::MetricMicro => 3,
        Meter::MetricService => 4,
        Meter::CheckExternal => 5,
        Meter::PluginCalls => 6,
        Meter::PluginCpuMs => 7,
        Meter::PluginBytesOut => 8,
    }
}

fn meter_of(number: u8) -> Result<Meter, Malformed> {
    Meter::ALL
        .into_iter()
        .find(|meter| meter_number(*meter) == number)
        .ok_or(Malformed("a meter is unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let element = |meter, subject: &str, member| Usage {
            hour: Hour(480_000),
            meter,
            subject: subject.to_owned(),
            member,
        };
        Record {
            tenant: TenantId(-3),
            received: Timestamp(1_795_478_399_999),
            definitions: [Some(Owner::MicroHost("web-1".to_owned())), None]
                .into_iter()
                .map(|owner| Definition {
                    slot: 9,
                    labels: Labels::from_pairs([("__name__", "up"), ("job", "api")]),
                    kind: MetricKind::Counter,
                    unit: "By".into(),
                    owner,
                })
                .collect(),
            usage: vec![
                element(Meter::HostMicro, "web-1", 0),
                element(Meter::MetricMicro, "web-1", u64::MAX),
                element(Meter::MetricMicro, "web-1", 5),
                element(Meter::MetricMicro, "web-2", 5),
            ],
            slots: vec![9, 0, u32::MAX],
            times_ms: vec![1_795_478_399_000, i64::MAX, i64::MIN],
            values: vec![1.5, -0.0, f64::INFINITY],
        }
    }

    #[test]
    fn a_record_survives_a_trip_through_bytes() {
        let mut bytes = Vec::new();
        record().encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let logged = LoggedRecord::decode(&mut reader).expect("a whole record");
        assert!(reader.is_empty());
        let definition = |from: &LoggedDefinition<'_>| Definition {
            slot: from.slot,
            labels: Labels::from_pairs(logged.labels(from).iter().copied()),
            kind: from.kind,
            unit: from.unit.into(),
            owner: from.owner.to_owner(),
        };
        let read = Record {
            tenant: logged.tenant,
            received: logged.received,
            definitions: logged.definitions.iter().map(definition).collect(),
            usage: logged.usage.clone(),
            slots: logged.slots.clone(),
            times_ms: logged.times_ms.clone(),
            values: logged.values.clone(),
        };
        assert_eq!(read, record());
    }

    #[test]
    fn a_record_that_ends_early_is_malformed() {
        let mut bytes = Vec::new();
        record().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert!(
                LoggedRecord::decode(&mut Reader::new(&bytes[..len])).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn labels_that_are_no_set_are_malformed() {
        let with_labels = |labels: &[(&str, &str)]| {
            let mut bytes = vec![0, 0, 1, 9, MetricKind::Counter as u8, 0, NOBODY, 0];
            bytes.push(labels.len() as u8);
            for (name, value) in labels {
                put_text(&mut bytes, name);
                put_text(&mut bytes, value);
            }
            bytes.extend([0, 0]);
            bytes
        };
        let decodes = |bytes: &[u8]| LoggedRecord::decode(&mut Reader::new(bytes)).is_ok();
        assert!(decodes(&with_labels(&[("a", "1"), ("b", "2")])));
        for labels in [
            [("b", "1"), ("a", "2")],
            [("a", "1"), ("a", "2")],
            [("a", "1"), ("b", "")],
        ] {
            assert!(!decodes(&with_labels(&labels)), "{labels:?}");
        }
    }
}
