//! The protobuf form of OTLP metrics.
//!
//! One pass over the body. What is known of a resource, a scope or a metric may stand behind its points in the bytes, so it
//! is given to the batch when the message ends. A field that should occur once and occurs again: of a
//! metric's data the points of both are taken, of anything else the last one counts.

mod attributes;
mod points;
mod tags;

pub(crate) use attributes::Memo;

use crate::batch::{Batch, EMPTY_SET, Metric, Scope, Scratch, Shape};
use crate::wire::{Reader, WireError};
use tags::{data, metric, request, resource, resource_metrics, scope, scope_metrics};

/// Reads a body into the batch.
pub(crate) fn read(
    body: &[u8],
    batch: &mut Batch,
    memo: &mut Memo,
    scratch: &mut Scratch,
) -> Result<(), WireError> {
    memo.clear();
    let mut decode = Decode {
        body,
        batch,
        memo,
        scratch,
    };
    let mut request = Reader::new(body);
    while let Some(tag) = request.tag()? {
        match tag {
            request::RESOURCE_METRICS => decode.resource_metrics(request.message()?)?,
            other => request.skip(other)?,
        }
    }
    Ok(())
}

/// One body being read.
struct Decode<'a, 'd> {
    body: &'a [u8],
    batch: &'d mut Batch,
    memo: &'d mut Memo,
    scratch: &'d mut Scratch,
}

impl<'a> Decode<'a, '_> {
    fn resource_metrics(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        let mut set = EMPTY_SET;
        while let Some(tag) = message.tag()? {
            match tag {
                resource_metrics::RESOURCE => {
                    set = self.attributes_of(message.message()?, resource::ATTRIBUTES)?;
                }
                resource_metrics::SCOPE_METRICS => self.scope_metrics(message.message()?)?,
                other => message.skip(other)?,
            }
        }
        self.batch.end_resource(set);
        Ok(())
    }

    fn scope_metrics(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        let mut scope = Scope::default();
        while let Some(tag) = message.tag()? {
            match tag {
                scope_metrics::SCOPE => self.scope(message.message()?, &mut scope)?,
                scope_metrics::METRICS => self.metric(message.message()?)?,
                scope_metrics::SCHEMA_URL => scope.schema_url = message.text()?,
                other => message.skip(other)?,
            }
        }
        self.batch.end_scope(&scope);
        Ok(())
    }

    fn scope(&mut self, message: Reader<'a>, scope: &mut Scope<'a>) -> Result<(), WireError> {
        scope.attributes = self.attributes_of(message, scope::ATTRIBUTES)?;
        let mut message = message;
        while let Some(tag) = message.tag()? {
            match tag {
                scope::NAME => scope.name = message.text()?,
                scope::VERSION => scope.version = message.text()?,
                other => message.skip(other)?,
            }
        }
        Ok(())
    }

    fn metric(&mut self, mut message: Reader<'a>) -> Result<(), WireError> {
        let mut metric = Metric::default();
        while let Some(tag) = message.tag()? {
            let shape = match tag {
                metric::NAME => {
                    metric.name = message.text()?;
                    continue;
                }
                metric::UNIT => {
                    metric.unit = message.text()?;
                    continue;
                }
                metric::GAUGE => Shape::Gauge,
                metric::SUM => Shape::Sum,
                metric::HISTOGRAM => Shape::Histogram,
                metric::EXPONENTIAL_HISTOGRAM => Shape::ExponentialHistogram,
                metric::SUMMARY => Shape::Summary,
                other => {
                    message.skip(other)?;
                    continue;
                }
            };
            if shape != metric.shape {
                self.batch.restart_metric();
                metric.take_shape(shape);
            }
            self.data(message.message()?, &mut metric)?;
        }
        self.batch.end_metric(&metric);
        Ok(())
    }

    /// The content of a metric, whichever of the five types it is.
    fn data(&mut self, mut message: Reader<'a>, metric: &mut Metric<'a>) -> Result<(), WireError> {
        while let Some(tag) = message.tag()? {
            match tag {
                data::DATA_POINTS => {
                    let point = message.message()?;
                    match metric.shape {
                        Shape::Gauge | Shape::Sum => self.number_point(point)?,
                        Shape::Histogram => self.histogram_point(point)?,
                        Shape::ExponentialHistogram => self.exponential_point(point)?,
                        Shape::Summary => self.summary_point(point)?,
                        Shape::None => {}
                    }
                }
                // An enumeration is a number of 32 bits with sign on the wire.
                data::AGGREGATION_TEMPORALITY => {
                    metric.temporality = i64::from(message.varint()? as i32);
                }
                data::IS_MONOTONIC => metric.is_monotonic = message.varint()? != 0,
                other => message.skip(other)?,
            }
        }
        Ok(())
    }
}
