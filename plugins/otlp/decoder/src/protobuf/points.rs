//! Data points from protobuf.

use crate::batch::{Buckets, Layout, NumberPoint};
use crate::wire::{Reader, WireError};

use super::Decode;
use super::attributes::PointSet;
use super::tags::{
    buckets, distribution, exponential_point, histogram_point, number_point, point, quantile_value,
    summary_point,
};

impl<'a> Decode<'a, '_> {
    #[inline(always)]
    pub(super) fn number_point(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        let mut found = PointSet::default();
        let mut number = NumberPoint::default();
        let mut fields = message;
        loop {
            let before = fields;
            let Some(tag) = fields.tag()? else { break };
            match tag {
                number_point::ATTRIBUTES => {
                    self.point_attributes(&mut found, tag, before, &mut fields)?;
                }
                point::START_TIME_UNIX_NANO => number.start_unix_nano = fields.fixed64()?,
                point::TIME_UNIX_NANO => number.time_unix_nano = fields.fixed64()?,
                number_point::AS_DOUBLE => number.value = Some(fields.double()?),
                number_point::AS_INT => number.value = Some(fields.fixed64()? as i64 as f64),
                number_point::FLAGS => number.flags = fields.varint()?,
                other => fields.skip(other)?,
            }
        }
        number.set = self.point_set(found, number_point::ATTRIBUTES, message)?;
        self.batch.number(&number);
        Ok(())
    }

    pub(super) fn histogram_point(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        self.scratch.histogram.clear(Layout::Explicit);
        let mut found = PointSet::default();
        let mut fields = message;
        loop {
            let before = fields;
            let Some(tag) = fields.tag()? else { break };
            let histogram = &mut self.scratch.histogram;
            let counts = &mut histogram.positive.counts;
            match tag {
                histogram_point::ATTRIBUTES => {
                    self.point_attributes(&mut found, tag, before, &mut fields)?;
                }
                histogram_point::BUCKET_COUNTS => counts.extend(fields.packed64()?),
                histogram_point::BUCKET_COUNT => counts.push(fields.fixed64()?),
                histogram_point::EXPLICIT_BOUNDS => {
                    let bounds = fields.packed64()?.map(f64::from_bits);
                    histogram.bounds.extend(bounds);
                }
                histogram_point::EXPLICIT_BOUND => histogram.bounds.push(fields.double()?),
                histogram_point::MIN => histogram.min = Some(fields.double()?),
                histogram_point::MAX => histogram.max = Some(fields.double()?),
                other => self.distribution(other, &mut fields)?,
            }
        }
        let set = self.point_set(found, histogram_point::ATTRIBUTES, message)?;
        self.scratch.histogram.set = set;
        self.batch.histogram(&mut self.scratch.histogram);
        Ok(())
    }

    pub(super) fn exponential_point(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        self.scratch.histogram.clear(Layout::Explicit);
        let (mut scale, mut zero_count, mut zero_threshold) = (0, 0, 0.0);
        let mut found = PointSet::default();
        let mut fields = message;
        loop {
            let before = fields;
            let Some(tag) = fields.tag()? else { break };
            let histogram = &mut self.scratch.histogram;
            match tag {
                exponential_point::ATTRIBUTES => {
                    self.point_attributes(&mut found, tag, before, &mut fields)?;
                }
                exponential_point::SCALE => scale = fields.zigzag()?,
                exponential_point::ZERO_COUNT => zero_count = fields.fixed64()?,
                exponential_point::ZERO_THRESHOLD => zero_threshold = fields.double()?,
                exponential_point::POSITIVE => {
                    read_buckets(fields.message()?, &mut histogram.positive)?;
                }
                exponential_point::NEGATIVE => {
                    read_buckets(fields.message()?, &mut histogram.negative)?;
                }
                exponential_point::MIN => histogram.min = Some(fields.double()?),
                exponential_point::MAX => histogram.max = Some(fields.double()?),
                other => self.distribution(other, &mut fields)?,
            }
        }
        let set = self.point_set(found, exponential_point::ATTRIBUTES, message)?;
        self.scratch.histogram.set = set;
        self.scratch.histogram.layout = Layout::Exponential {
            scale,
            zero_count,
            zero_threshold,
        };
        self.batch.histogram(&mut self.scratch.histogram);
        Ok(())
    }

    /// Reads a field that both kinds of histogram have.
    fn distribution(&mut self, tag: u64, fields: &mut Reader<'a>) -> Result<(), WireError> {
        let histogram = &mut self.scratch.histogram;
        match tag {
            point::START_TIME_UNIX_NANO => histogram.start_unix_nano = fields.fixed64()?,
            point::TIME_UNIX_NANO => histogram.time_unix_nano = fields.fixed64()?,
            distribution::COUNT => histogram.count = fields.fixed64()?,
            distribution::SUM => histogram.sum = Some(fields.double()?),
            distribution::FLAGS => histogram.flags = fields.varint()?,
            other => fields.skip(other)?,
        }
        Ok(())
    }

    pub(super) fn summary_point(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        self.scratch.summary.clear();
        let mut found = PointSet::default();
        let mut fields = message;
        loop {
            let before = fields;
            let Some(tag) = fields.tag()? else { break };
            let summary = &mut self.scratch.summary;
            match tag {
                summary_point::ATTRIBUTES => {
                    self.point_attributes(&mut found, tag, before, &mut fields)?;
                }
                point::START_TIME_UNIX_NANO => summary.start_unix_nano = fields.fixed64()?,
                point::TIME_UNIX_NANO => summary.time_unix_nano = fields.fixed64()?,
                summary_point::COUNT => summary.count = fields.fixed64()?,
                summary_point::SUM => summary.sum = fields.double()?,
                summary_point::QUANTILE_VALUES => {
                    summary.quantiles.push(read_quantile(fields.message()?)?);
                }
                summary_point::FLAGS => summary.flags = fields.varint()?,
                other => fields.skip(other)?,
            }
        }
        let set = self.point_set(found, summary_point::ATTRIBUTES, message)?;
        self.scratch.summary.set = set;
        self.batch.summary(&self.scratch.summary);
        Ok(())
    }
}

fn read_buckets(mut message: Reader<'_>, into: &mut Buckets) -> Result<(), WireError> {
    while let Some(tag) = message.tag()? {
        match tag {
            buckets::OFFSET => into.offset = message.zigzag()?,
            buckets::BUCKET_COUNTS => {
                let mut packed = message.message()?;
                while !packed.rest().is_empty() {
                    into.counts.push(packed.varint()?);
                }
            }
            buckets::BUCKET_COUNT => into.counts.push(message.varint()?),
            other => message.skip(other)?,
        }
    }
    Ok(())
}

fn read_quantile(mut message: Reader<'_>) -> Result<(f64, f64), WireError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(tag) = message.tag()? {
        match tag {
            quantile_value::QUANTILE => quantile = message.double()?,
            quantile_value::VALUE => value = message.double()?,
            other => message.skip(other)?,
        }
    }
    Ok((quantile, value))
}
