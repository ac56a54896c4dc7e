//! Data points from JSON.

use crate::batch::{Buckets, Layout, NumberPoint};

use super::Decode;
use super::reader::{JsonError, JsonReader};

impl Decode<'_> {
    pub(super) fn number_point(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        let mut number = NumberPoint::default();
        reader.object(|reader, name| {
            match name {
                "attributes" => self.attributes(reader)?,
                "startTimeUnixNano" => number.start_unix_nano = reader.u64()?,
                "timeUnixNano" => number.time_unix_nano = reader.u64()?,
                "asDouble" => number.value = Some(reader.f64()?),
                "asInt" => number.value = Some(reader.i64()? as f64),
                "flags" => number.flags = reader.u64()?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        number.set = self.batch.close_set();
        self.batch.number(&number);
        Ok(())
    }

    pub(super) fn histogram_point(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        self.scratch.histogram.clear(Layout::Explicit);
        reader.object(|reader, name| {
            let histogram = &mut self.scratch.histogram;
            match name {
                "bucketCounts" => push_counts(reader, &mut histogram.positive.counts),
                "explicitBounds" => reader.array(|reader| {
                    histogram.bounds.push(reader.f64()?);
                    Ok(())
                }),
                _ => self.distribution(reader, name),
            }
        })?;
        self.end_histogram();
        Ok(())
    }

    pub(super) fn exponential_point(
        &mut self,
        reader: &mut JsonReader<'_>,
    ) -> Result<(), JsonError> {
        self.scratch.histogram.clear(Layout::Explicit);
        let (mut scale, mut zero_count, mut zero_threshold) = (0, 0, 0.0);
        reader.object(|reader, name| {
            let histogram = &mut self.scratch.histogram;
            match name {
                "scale" => scale = reader.i32()?,
                "zeroCount" => zero_count = reader.u64()?,
                "zeroThreshold" => zero_threshold = reader.f64()?,
                "positive" => read_buckets(reader, &mut histogram.positive)?,
                "negative" => read_buckets(reader, &mut histogram.negative)?,
                _ => self.distribution(reader, name)?,
            }
            Ok(())
        })?;
        self.scratch.histogram.layout = Layout::Exponential {
            scale,
            zero_count,
            zero_threshold,
        };
        self.end_histogram();
        Ok(())
    }

    /// Reads a member that both kinds of histogram have.
    fn distribution(&mut self, reader: &mut JsonReader<'_>, name: &str) -> Result<(), JsonError> {
        let histogram = &mut self.scratch.histogram;
        match name {
            "attributes" => self.attributes(reader)?,
            "startTimeUnixNano" => histogram.start_unix_nano = reader.u64()?,
            "timeUnixNano" => histogram.time_unix_nano = reader.u64()?,
            "count" => histogram.count = reader.u64()?,
            "sum" => histogram.sum = Some(reader.f64()?),
            "min" => histogram.min = Some(reader.f64()?),
            "max" => histogram.max = Some(reader.f64()?),
            "flags" => histogram.flags = reader.u64()?,
            _ => reader.skip()?,
        }
        Ok(())
    }

    fn end_histogram(&mut self) {
        self.scratch.histogram.set = self.batch.close_set();
        self.batch.histogram(&mut self.scratch.histogram);
    }

    pub(super) fn summary_point(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        self.scratch.summary.clear();
        reader.object(|reader, name| {
            let summary = &mut self.scratch.summary;
            match name {
                "attributes" => self.attributes(reader)?,
                "startTimeUnixNano" => summary.start_unix_nano = reader.u64()?,
                "timeUnixNano" => summary.time_unix_nano = reader.u64()?,
                "count" => summary.count = reader.u64()?,
                "sum" => summary.sum = reader.f64()?,
                "flags" => summary.flags = reader.u64()?,
                "quantileValues" => reader.array(|reader| {
                    summary.quantiles.push(read_quantile(reader)?);
                    Ok(())
                })?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        self.scratch.summary.set = self.batch.close_set();
        self.batch.summary(&self.scratch.summary);
        Ok(())
    }
}

fn push_counts(reader: &mut JsonReader<'_>, into: &mut Vec<u64>) -> Result<(), JsonError> {
    reader.array(|reader| {
        into.push(reader.u64()?);
        Ok(())
    })
}

fn read_buckets(reader: &mut JsonReader<'_>, into: &mut Buckets) -> Result<(), JsonError> {
    reader.object(|reader, name| match name {
        "offset" => {
            into.offset = reader.i32()?;
            Ok(())
        }
        "bucketCounts" => push_counts(reader, &mut into.counts),
        _ => reader.skip(),
    })
}

fn read_quantile(reader: &mut JsonReader<'_>) -> Result<(f64, f64), JsonError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    reader.object(|reader, name| {
        match name {
            "quantile" => quantile = reader.f64()?,
            "value" => value = reader.f64()?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok((quantile, value))
}
