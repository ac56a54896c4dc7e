//! The JSON form of OTLP metrics.
//!
//! One pass over the body, like the protobuf form, in whatever order an object's members stand. Names are in
//! lowerCamelCase; a name that is unknown, and the original form of one that is known, is passed over, as the
//! specification wants it: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

mod points;
mod reader;
mod values;

use std::borrow::Cow;

use crate::batch::{Batch, EMPTY_SET, Metric, Scope, Scratch, Shape};
use reader::{JsonError, JsonReader};

/// Reads a body into the batch.
pub(crate) fn read(body: &[u8], batch: &mut Batch, scratch: &mut Scratch) -> Result<(), JsonError> {
    let mut reader = JsonReader::new(body)?;
    let mut decode = Decode { batch, scratch };
    reader.object(|reader, name| match name {
        "resourceMetrics" => reader.array(|reader| decode.resource_metrics(reader)),
        _ => reader.skip(),
    })?;
    reader.end()
}

/// One body being read.
struct Decode<'d> {
    batch: &'d mut Batch,
    scratch: &'d mut Scratch,
}

impl Decode<'_> {
    fn resource_metrics(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        let mut set = EMPTY_SET;
        reader.object(|reader, name| match name {
            "resource" => {
                reader.object(|reader, name| match name {
                    "attributes" => self.attributes(reader),
                    _ => reader.skip(),
                })?;
                set = self.batch.close_set();
                Ok(())
            }
            "scopeMetrics" => reader.array(|reader| self.scope_metrics(reader)),
            _ => reader.skip(),
        })?;
        self.batch.end_resource(set);
        Ok(())
    }

    fn scope_metrics(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        let (mut scope_name, mut version, mut schema_url) =
            (Cow::default(), Cow::default(), Cow::default());
        let mut attributes = EMPTY_SET;
        reader.object(|reader, name| match name {
            "scope" => {
                reader.object(|reader, name| {
                    match name {
                        "name" => scope_name = reader.string()?,
                        "version" => version = reader.string()?,
                        "attributes" => self.attributes(reader)?,
                        _ => reader.skip()?,
                    }
                    Ok(())
                })?;
                attributes = self.batch.close_set();
                Ok(())
            }
            "metrics" => reader.array(|reader| self.metric(reader)),
            "schemaUrl" => {
                schema_url = reader.string()?;
                Ok(())
            }
            _ => reader.skip(),
        })?;
        self.batch.end_scope(&Scope {
            name: &scope_name,
            version: &version,
            schema_url: &schema_url,
            attributes,
        });
        Ok(())
    }

    fn metric(&mut self, reader: &mut JsonReader<'_>) -> Result<(), JsonError> {
        let (mut metric_name, mut unit) = (Cow::default(), Cow::default());
        let mut metric = Metric::default();
        reader.object(|reader, name| {
            let shape = match name {
                "name" => {
                    metric_name = reader.string()?;
                    return Ok(());
                }
                "unit" => {
                    unit = reader.string()?;
                    return Ok(());
                }
                "gauge" => Shape::Gauge,
                "sum" => Shape::Sum,
                "histogram" => Shape::Histogram,
                "exponentialHistogram" => Shape::ExponentialHistogram,
                "summary" => Shape::Summary,
                _ => return reader.skip(),
            };
            if shape != metric.shape {
                self.batch.restart_metric();
                metric.take_shape(shape);
            }
            self.data(reader, &mut metric)
        })?;
        self.batch.end_metric(&Metric {
            name: &metric_name,
            unit: &unit,
            ..metric
        });
        Ok(())
    }

    /// The content of a metric, whichever of the five types it is.
    fn data(
        &mut self,
        reader: &mut JsonReader<'_>,
        metric: &mut Metric<'_>,
    ) -> Result<(), JsonError> {
        reader.object(|reader, name| {
            match name {
                "dataPoints" => reader.array(|reader| match metric.shape {
                    Shape::Gauge | Shape::Sum => self.number_point(reader),
                    Shape::Histogram => self.histogram_point(reader),
                    Shape::ExponentialHistogram => self.exponential_point(reader),
                    Shape::Summary => self.summary_point(reader),
                    Shape::None => reader.skip(),
                })?,
                "aggregationTemporality" => metric.temporality = reader.enumeration()?,
                "isMonotonic" => metric.is_monotonic = reader.bool()?,
                _ => reader.skip()?,
            }
            Ok(())
        })
    }
}
