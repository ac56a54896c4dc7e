//! The decoder against OTLP's public definitions, in both forms, and against hostile bytes.

mod consistency;
mod golden;
mod hostile;
mod json;
mod messages;
mod readable;
mod rejections;
