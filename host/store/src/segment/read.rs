//! Opens segments: a tenant's index, the series that match, and their labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use fst::{IntoStreamer, Streamer};
use roaring::RoaringBitmap;
use shoal_model::TenantId;
use shoal_model::labels::{Label, Labels};
use shoal_model::telemetry::MetricKind;

use super::page::{PagePointer, SegmentFile};
use super::postings::{KEY_SEPARATOR, PostingsIndex, SetReader, key, split_key};
use super::series::{PAGE_SERIES, SeriesEntry};
use super::stream::{PAGE_SAMPLES_MAX, Start, StreamDirectory};
use super::{BEGIN_BYTES, DIRECTORY_ENTRY_BYTES, MAGIC, Section, TRAILER_BYTES, VERSION};
use crate::codec::{Malformed, Reader};
use crate::postings::LabelIndex;
use crate::read::{MetricMetadata, ReadError};

/// What is kept in memory of one tenant's part of a segment.
#[derive(Debug)]
pub(crate) struct TenantIndex {
    pub(crate) series: u32,
    pub(crate) page_samples: usize,
    pub(crate) postings: PostingsIndex,
    /// Pages of the series table.
    pub(crate) table: Vec<PagePointer>,
    pub(crate) vectors: Vec<Vector>,
    pub(crate) times: StreamDirectory,
    pub(crate) integers: StreamDirectory,
    pub(crate) floats: StreamDirectory,
    pub(crate) metas: Vec<MetricMetadata>,
    sections: BTreeMap<u8, PagePointer>,
}

/// A time vector.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) len: u32,
    pub(crate) start: Start,
    /// The first time of each of its pages.
    pub(crate) firsts: Box<[i64]>,
}

/// Reads what the trailer leads to: every tenant with the place of its header.
pub(crate) fn tenants(file: &SegmentFile) -> Result<Vec<(TenantId, PagePointer)>, ReadError> {
    let begin = file.bytes("beginning", 0, BEGIN_BYTES)?;
    if begin[..8] != *MAGIC {
        return Err(file.damaged("beginning", 0, "it does not begin like a segment"));
    }
    if begin[8..] != VERSION.to_le_bytes() {
        return Err(file.damaged("beginning", 0, "its version is not known to this release"));
    }
    let trailer_at = file.len().saturating_sub(TRAILER_BYTES as u64);
    let trailer = file.bytes("trailer", trailer_at, TRAILER_BYTES)?;
    let damaged = |reason: &str| file.damaged("trailer", trailer_at, reason);
    if trailer[24..] != *MAGIC {
        return Err(damaged("it does not end like a segment"));
    }
    let mut reader = Reader::new(&trailer);
    let mut parse = || -> Result<(PagePointer, u32, u32), Malformed> {
        Ok((pointer(&mut reader)?, reader.u32()?, reader.u32()?))
    };
    let (directory, version, crc) = parse().map_err(|error| damaged(error.0))?;
    let checked = PagePointer {
        offset: trailer_at,
        len: 20,
        crc,
    };
    file.check("trailer", checked, &trailer[..20])?;
    if version != VERSION {
        return Err(damaged("its version is not known to this release"));
    }
    file.decode("directory", directory, |reader| {
        let mut tenants = Vec::with_capacity(reader.rest().len() / DIRECTORY_ENTRY_BYTES);
        while !reader.is_empty() {
            tenants.push((TenantId(reader.u64()? as i64), pointer(reader)?));
        }
        Ok(tenants)
    })
}

fn pointer(reader: &mut Reader<'_>) -> Result<PagePointer, Malformed> {
    Ok(PagePointer {
        offset: reader.u64()?,
        len: reader.u32()?,
        crc: reader.u32()?,
    })
}

/// A tenant's header.
struct Header {
    series: u32,
    page_samples: usize,
    sections: BTreeMap<u8, PagePointer>,
}

impl Header {
    fn decode(tenant: TenantId, reader: &mut Reader<'_>) -> Result<Header, Malformed> {
        if reader.signed()? != tenant.0 {
            return Err(Malformed("it is another tenant's"));
        }
        let series = reader.varint_u32()?;
        let _samples = reader.varint()?;
        let page_samples = reader.varint_u32()? as usize;
        if !(1..=PAGE_SAMPLES_MAX).contains(&page_samples) {
            return Err(Malformed("its pages are too large"));
        }
        let sections = (0..reader.len(6)?)
            .map(|_| Ok((reader.u8()?, PagePointer::decode(reader)?)))
            .collect::<Result<_, _>>()?;
        Ok(Header {
            series,
            page_samples,
            sections,
        })
    }
}

impl TenantIndex {
    /// Reads and checks a tenant's index.
    pub(crate) fn load(file: &SegmentFile, tenant: TenantId) -> Result<TenantIndex, ReadError> {
        let found = tenants(file)?.into_iter().find(|(id, _)| *id == tenant);
        let Some((_, at)) = found else {
            return Err(file.damaged("directory", 0, "the tenant is not in it"));
        };
        let header = file.decode("tenant header", at, |reader| Header::decode(tenant, reader))?;
        let place = |section: Section| {
            let pointer = header.sections.get(&(section as u8)).copied();
            pointer.ok_or_else(|| {
                let reason = format!("it does not lead to the {}", section.name());
                file.damaged("tenant header", at.offset, reason)
            })
        };
        let directory = |section: Section| {
            file.decode_section(section.name(), place(section)?, StreamDirectory::decode)
        };
        let table =
            file.decode_section(Section::Series.name(), place(Section::Series)?, |reader| {
                (0..(header.series as usize).div_ceil(PAGE_SERIES))
                    .map(|_| PagePointer::decode(reader))
                    .collect()
            })?;
        let vectors = file.decode_section(
            Section::Vectors.name(),
            place(Section::Vectors)?,
            |reader| decode_vectors(header.page_samples, reader),
        )?;
        let metas =
            file.decode_section(Section::Metas.name(), place(Section::Metas)?, decode_metas)?;
        Ok(TenantIndex {
            series: header.series,
            page_samples: header.page_samples,
            postings: PostingsIndex::load(
                file,
                place(Section::Labels)?,
                place(Section::Postings)?,
            )?,
            table,
            vectors,
            times: directory(Section::Times)?,
            integers: directory(Section::Integers)?,
            floats: directory(Section::Floats)?,
            metas,
            sections: header.sections,
        })
    }

    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let firsts: usize = self.vectors.iter().map(|vector| vector.firsts.len()).sum();
        self.postings.memory_bytes()
            + (self.table.len() * size_of::<PagePointer>()) as u64
            + (self.vectors.len() * size_of::<Vector>() + firsts * size_of::<i64>()) as u64
            + self.times.memory_bytes()
            + self.integers.memory_bytes()
            + self.floats.memory_bytes()
    }

    /// The place of a section; nothing for one that is not there, which [`TenantIndex::load`] has noticed.
    pub(crate) fn section(&self, section: Section) -> Option<PagePointer> {
        self.sections.get(&(section as u8)).copied()
    }
}

fn decode_vectors(page_samples: usize, reader: &mut Reader<'_>) -> Result<Vec<Vector>, Malformed> {
    let mut vectors = Vec::new();
    let mut before = 0i64;
    for _ in 0..reader.len(3)? {
        let len = reader.varint_u32()?;
        let start = Start {
            page: reader.varint_u32()?,
            run: reader.varint_u32()?,
        };
        let pages = (len as usize).div_ceil(page_samples);
        if pages > reader.rest().len() {
            return Err(Malformed("a time vector is longer than what follows"));
        }
        let firsts = (0..pages).map(|_| {
            before = before.wrapping_add(reader.signed()?);
            Ok(before)
        });
        let firsts = firsts.collect::<Result<_, Malformed>>()?;
        vectors.push(Vector { len, start, firsts });
    }
    Ok(vectors)
}

fn decode_metas(reader: &mut Reader<'_>) -> Result<Vec<MetricMetadata>, Malformed> {
    (0..reader.len(2)?)
        .map(|_| {
            Ok(MetricMetadata {
                kind: MetricKind::from_number(reader.u8()?)
                    .ok_or(Malformed("the kind of a metric is unknown"))?,
                unit: reader.shared_text()?,
            })
        })
        .collect()
}

/// One tenant's part of an open segment.
pub(crate) struct TenantReader<'a> {
    pub(crate) file: &'a SegmentFile,
    pub(crate) index: &'a TenantIndex,
    sets: SetReader<'a>,
}

/// A series of a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentSeries {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Arc<str>,
    pub(crate) entry: SeriesEntry,
}

/// Labels that were resolved during one read: most series share most of theirs.
struct LabelTexts<'a> {
    index: &'a PostingsIndex,
    known: Vec<Option<Label>>,
    name: Option<Arc<str>>,
    key: Vec<u8>,
}

impl LabelTexts<'_> {
    fn label(&mut self, number: u32) -> Result<Label, Malformed> {
        let known = self.known.get_mut(number as usize);
        let known = known.ok_or(Malformed("a label is out of range"))?;
        if let Some(label) = known {
            return Ok(label.clone());
        }
        if !self.index.label(number, &mut self.key) {
            return Err(Malformed("a label is out of range"));
        }
        let (name, value) = split_key(&self.key)?;
        let name = match &self.name {
            Some(last) if **last == *name => last.clone(),
            _ => Arc::from(name),
        };
        self.name = Some(name.clone());
        let label = Label {
            name,
            value: Arc::from(value),
        };
        *known = Some(label.clone());
        Ok(label)
    }
}

impl<'a> TenantReader<'a> {
    pub(crate) fn new(file: &'a SegmentFile, index: &'a TenantIndex) -> TenantReader<'a> {
        TenantReader {
            file,
            index,
            sets: SetReader::new(file, &index.postings, index.series),
        }
    }

    /// The series with these numbers, in their order, which is that of their labels. Pages of the series table that
    /// are damaged go to `damaged`, and their series are left out.
    pub(crate) fn series(
        &self,
        numbers: &RoaringBitmap,
        damaged: &mut dyn FnMut(ReadError),
    ) -> Vec<SegmentSeries> {
        let mut texts = LabelTexts {
            index: &self.index.postings,
            known: vec![None; self.index.postings.labels.len()],
            name: None,
            key: Vec::new(),
        };
        let mut found = Vec::with_capacity(numbers.len() as usize);
        let mut numbers = numbers.iter().peekable();
        while let Some(first) = numbers.peek().copied() {
            let page = first / PAGE_SERIES as u32;
            let on_page = std::iter::from_fn(|| {
                numbers
                    .next_if(|number| number / PAGE_SERIES as u32 == page)
                    .map(|number| number as usize % PAGE_SERIES)
            });
            let on_page: Vec<usize> = on_page.collect();
            let begin = found.len();
            if let Err(error) = self.series_of_page(page as usize, &on_page, &mut texts, &mut found)
            {
                found.truncate(begin);
                damaged(error);
            }
        }
        found
    }

    fn series_of_page(
        &self,
        page: usize,
        wanted: &[usize],
        texts: &mut LabelTexts<'_>,
        found: &mut Vec<SegmentSeries>,
    ) -> Result<(), ReadError> {
        let Some(pointer) = self.index.table.get(page) else {
            return Err(self
                .file
                .damaged(Section::Series.name(), 0, "a series is not in it"));
        };
        let section = Section::Series.pages_name();
        let count = PAGE_SERIES.min(self.index.series as usize - page * PAGE_SERIES);
        self.file.decode_section(section, *pointer, |reader| {
            let mut wanted = wanted.iter().peekable();
            let mut before = SeriesEntry::default();
            for at in 0..count {
                let entry = SeriesEntry::decode(&before, reader)?;
                if wanted.next_if_eq(&&at).is_some() {
                    found.push(self.resolve(entry.clone(), texts)?);
                }
                before = entry;
            }
            Ok(())
        })
    }

    /// All series of a page of the series table, as they lie there.
    pub(crate) fn entries(&self, page: usize) -> Result<Vec<SeriesEntry>, ReadError> {
        let section = Section::Series.pages_name();
        let count = PAGE_SERIES.min(self.index.series as usize - page * PAGE_SERIES);
        let pointer = self.index.table[page];
        self.file.decode_section(section, pointer, |reader| {
            let mut entries: Vec<SeriesEntry> = Vec::with_capacity(count);
            for _ in 0..count {
                let before = entries.last();
                let entry = SeriesEntry::decode(before.unwrap_or(&SeriesEntry::default()), reader)?;
                entries.push(entry);
            }
            Ok(entries)
        })
    }

    fn resolve(
        &self,
        entry: SeriesEntry,
        texts: &mut LabelTexts<'_>,
    ) -> Result<SegmentSeries, Malformed> {
        let labels = entry.labels.iter().map(|label| texts.label(*label));
        let labels = labels.collect::<Result<_, _>>()?;
        let meta = self.index.metas.get(entry.meta as usize);
        let meta = meta.ok_or(Malformed("its kind and unit are out of range"))?;
        Ok(SegmentSeries {
            labels: Labels::from_labels(labels),
            kind: meta.kind,
            unit: meta.unit.clone(),
            entry,
        })
    }

    /// Kind and unit of each metric name.
    pub(crate) fn metrics(&self) -> Result<Vec<(String, MetricMetadata)>, ReadError> {
        let Some(pointer) = self.index.section(Section::Metrics) else {
            return Err(self
                .file
                .damaged("tenant header", 0, "it does not lead to the metrics"));
        };
        let mut key = Vec::new();
        self.file
            .decode_section(Section::Metrics.name(), pointer, |reader| {
                (0..reader.len(2)?)
                    .map(|_| {
                        let name = match reader.varint_u32()?.checked_sub(1) {
                            None => String::new(),
                            Some(label) if self.index.postings.label(label, &mut key) => {
                                split_key(&key)?.1.to_owned()
                            }
                            Some(_) => return Err(Malformed("a metric's name is out of range")),
                        };
                        let meta = self.index.metas.get(reader.varint_u32()? as usize);
                        let meta = meta.ok_or(Malformed("its kind and unit are out of range"))?;
                        Ok((name, meta.clone()))
                    })
                    .collect()
            })
    }

    /// Reads the set of series of every label.
    pub(crate) fn check_sets(&self) -> Result<(), ReadError> {
        self.sets.check()
    }

    /// The names of all labels, sorted.
    pub(crate) fn label_names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut labels = self.index.postings.labels.range().ge(&from).into_stream();
            let Some((key, _)) = labels.next() else {
                return Ok(names);
            };
            let (name, _) = split_key(key).map_err(|error| self.label_damage(error))?;
            // Beyond all values of this name.
            from = name.as_bytes().to_vec();
            from.extend_from_slice(&[KEY_SEPARATOR; 2]);
            names.push(name.to_owned());
        }
    }

    fn label_damage(&self, reason: impl ToString) -> ReadError {
        let at = self.index.section(Section::Labels);
        let offset = at.map_or(0, |pointer| pointer.offset);
        self.file.damaged(Section::Labels.name(), offset, reason)
    }

    /// Hands on every value of a label, sorted, with the number of the label.
    pub(crate) fn each_value(
        &self,
        name: &str,
        mut each: impl FnMut(&str, u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        self.index.postings.each_value(name, |value, number| {
            let value = std::str::from_utf8(value).map_err(|error| self.label_damage(error))?;
            each(value, number)
        })
    }
}

impl LabelIndex for TenantReader<'_> {
    type Error = ReadError;

    fn all(&self) -> Result<RoaringBitmap, ReadError> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.index.series);
        Ok(all)
    }

    fn with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, ReadError> {
        match self.index.postings.labels.get(key(name, value)) {
            Some(number) => self.sets.set(number),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn with_values(
        &self,
        name: &str,
        is_wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, ReadError> {
        let mut found = RoaringBitmap::new();
        self.each_value(name, |value, number| {
            if is_wanted(value) {
                found |= self.sets.set(number)?;
            }
            Ok(())
        })?;
        Ok(found)
    }
}
