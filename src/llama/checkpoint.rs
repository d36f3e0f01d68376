//! A checkpoint's tensors: one or many safetensors files, mapped into memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo, TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::config::CONFIG_FILE;
use super::model::Llama;
use super::tokenizer::TOKENIZER;
use crate::contamination::TrainingPairs;
use crate::memory::{map_file, release};
use crate::model::{HostTensor, serialize, to_host};

const ONE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Why a checkpoint's tensors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder has no weights of this format.
    #[error(
        "{folder} has neither {ONE_FILE} nor {INDEX}; other formats are converted by \
         `save_pretrained` of transformers",
        folder = .folder.display()
    )]
    NoWeights {
        /// The checkpoint's folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that the index names is not there.
    #[error(
        "{path} is missing, but {INDEX} names it for `{tensor}`; download the rest of the checkpoint",
        path = .path.display()
    )]
    MissingShard {
        /// The file.
        path: PathBuf,
        /// A tensor that it should hold.
        tensor: String,
    },
    /// The index cannot be read.
    #[error("{path} is no index of safetensors ({reason}); download it again", path = .path.display())]
    BadIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is cut short or something else.
    #[error(
        "{path} is not a whole safetensors file ({reason}); copy or download it again",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A tensor that should be there.
    #[error("{path} lacks the tensor `{name}`, which config.json asks for", path = .path.display())]
    Missing {
        /// The checkpoint, or the file that the index names.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that the network has no place for.
    #[error(
        "{path} has the tensor `{name}`, for which config.json leaves no place; it is another network",
        path = .path.display()
    )]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape.
    #[error(
        "{path}: `{name}` is {found:?}, but config.json asks for {expected:?}",
        path = .path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape that the sizes ask for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A number format that is not read.
    #[error("{path}: `{name}` is stored as {dtype}; f32, f16 and bf16 are read", path = .path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The format found.
        dtype: String,
    },
    /// A head of its own where the configuration says that it is the embedding.
    #[error(
        "{path}: `{name}` differs from the embedding, but config.json says `tie_word_embeddings`; \
         set that to false to use both",
        path = .path.display()
    )]
    NotTied {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// One mapped file.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    map: Mmap,
    /// Where the tensors' bytes begin.
    start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Shard {
    /// Maps a file and reads its header.
    pub(super) fn open(path: PathBuf) -> Result<Self, CheckpointError> {
        let map =
            map_file(&path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        // The header says how long the file must be, so that one that is cut short is found here.
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| CheckpointError::Damaged { path: path.clone(), reason: e.to_string() })?;
        let tensors = metadata.tensors().into_iter().map(|(n, info)| (n, info.clone())).collect();
        let start = size_of::<u64>() + header;
        Ok(Self { path, map, start, tensors })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    /// A tensor's shape, format and bytes, if the file has it.
    fn find(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.tensors.get(name)?;
        let (from, to) = info.data_offsets;
        Some((info, &self.map[self.start + from..self.start + to]))
    }

    /// A tensor as 32-bit floats in host memory.
    pub(super) fn host(&self, name: &str) -> Result<HostTensor, CheckpointError> {
        Ok(HostTensor {
            shape: self.found(name)?.0.shape.clone(),
            values: self.numbers(name, |v| v)?,
        })
    }

    /// A tensor's numbers, each as `number` makes it of the 32-bit float that it is or, of 16 bits, becomes exactly.
    fn numbers<T>(&self, name: &str, number: impl Fn(f32) -> T) -> Result<Vec<T>, CheckpointError> {
        let (info, bytes) = self.found(name)?;
        let words = || bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
        match info.dtype {
            Dtype::F32 => {
                let floats = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
                Ok(floats.map(number).collect())
            }
            Dtype::F16 => Ok(words().map(|b| number(f16::from_bits(b).to_f32())).collect()),
            Dtype::BF16 => Ok(words().map(|b| number(bf16::from_bits(b).to_f32())).collect()),
            other => Err(self.bad_dtype(name, other)),
        }
    }

    /// Lets go of the memory of a tensor that was read.
    fn release(&self, info: &TensorInfo) {
        let (from, to) = info.data_offsets;
        release(&self.map, self.start + from..self.start + to);
    }

    fn found(&self, name: &str) -> Result<(&TensorInfo, &[u8]), CheckpointError> {
        let missing = || CheckpointError::Missing { path: self.path.clone(), name: name.into() };
        self.find(name).ok_or_else(missing)
    }

    fn bad_dtype(&self, name: &str, dtype: Dtype) -> CheckpointError {
        let (path, name) = (self.path.clone(), name.to_owned());
        CheckpointError::Dtype { path, name, dtype: format!("{dtype:?}") }
    }
}

/// A checkpoint whose tensors are taken one by one; what is left at the end has no place in the network.
pub(super) struct Checkpoint<'a> {
    folder: PathBuf,
    shards: Vec<Shard>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
    taken: BTreeSet<String>,
    /// Of all that was taken so far, in its order.
    hash: Sha256,
    dtype: DType,
    device: &'a Device,
}

impl<'a> Checkpoint<'a> {
    /// Maps all files of a folder. Tensors will be made as `dtype` on `device`.
    pub(super) fn open(
        folder: &Path,
        dtype: DType,
        device: &'a Device,
    ) -> Result<Self, CheckpointError> {
        let (shards, places) = if folder.join(ONE_FILE).exists() {
            let shard = Shard::open(folder.join(ONE_FILE))?;
            let places = shard.names().map(|name| (name.clone(), 0)).collect();
            (vec![shard], places)
        } else if folder.join(INDEX).exists() {
            open_shards(folder)?
        } else {
            return Err(CheckpointError::NoWeights { folder: folder.into() });
        };
        let (folder, taken, hash) = (folder.into(), BTreeSet::new(), Sha256::new());
        Ok(Self { folder, shards, places, taken, hash, dtype, device })
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Takes a tensor, which must have this shape.
    pub(super) fn take<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, CheckpointError> {
        let Some(&place) = self.places.get(name) else {
            return Err(CheckpointError::Missing { path: self.folder.clone(), name: name.into() });
        };
        let shard = &self.shards[place];
        let (info, bytes) = shard.found(name)?;
        if info.shape != shape {
            let (path, name, found) = (shard.path.clone(), name.into(), info.shape.clone());
            return Err(CheckpointError::Shape { path, name, expected: shape.to_vec(), found });
        }
        // The one copy: from the mapped file to the device, in the format that is wanted there.
        let data = match self.dtype {
            DType::F16 => TensorData::new(shard.numbers(name, f16::from_f32)?, shape),
            DType::BF16 => TensorData::new(shard.numbers(name, bf16::from_f32)?, shape),
            _ => TensorData::new(shard.numbers(name, |v| v)?, shape),
        };
        // While the bytes are at hand: a large checkpoint is read once.
        for part in [name.as_bytes(), format!("{:?} {shape:?}", info.dtype).as_bytes(), bytes] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        shard.release(info);
        self.taken.insert(name.to_owned());
        Ok(Tensor::from_data(data, (self.device, self.dtype)))
    }

    /// Checks that a head which is stored beside a tied embedding is the same.
    pub(super) fn is_tied(&mut self, head: &str, embedding: &str) -> Result<(), CheckpointError> {
        if !self.holds(head) {
            return Ok(());
        }
        let part = |name: &str| self.shards[self.places[name]].found(name);
        let ((a, x), (b, y)) = (part(head)?, part(embedding)?);
        let same = (a.dtype, &a.shape, x) == (b.dtype, &b.shape, y);
        for (name, info) in [(head, a), (embedding, b)] {
            self.shards[self.places[name]].release(info);
        }
        if !same {
            let path = self.shards[self.places[head]].path.clone();
            return Err(CheckpointError::NotTied { path, name: head.into() });
        }
        self.taken.insert(head.to_owned());
        Ok(())
    }

    /// Checks that nothing is left; gives the hash of all that was taken: names, formats, shapes and bytes.
    pub(super) fn finish(self) -> Result<Sha256, CheckpointError> {
        // Early Llama checkpoints store the rotary frequencies, which follow from the configuration.
        let known = |name: &str| name.ends_with("rotary_emb.inv_freq");
        let left = self.places.iter().find(|(n, _)| !self.taken.contains(*n) && !known(n));
        match left {
            Some((name, &shard)) => {
                let path = self.shards[shard].path.clone();
                Err(CheckpointError::Unexpected { path, name: name.clone() })
            }
            None => Ok(self.hash),
        }
    }
}

/// The files of a checkpoint that are not there: of configuration, tokenizer and weights.
///
/// # Errors
/// [`CheckpointError`] if the weights' index cannot be read.
pub fn missing_files(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut files = BTreeSet::from([CONFIG_FILE.to_owned(), TOKENIZER.to_owned()]);
    if folder.join(INDEX).exists() && !folder.join(ONE_FILE).exists() {
        files.extend(weight_map(folder)?.into_iter().map(|(_, file)| file));
    } else {
        files.insert(ONE_FILE.to_owned());
    }
    Ok(files.into_iter().filter(|file| !folder.join(file).exists()).collect())
}

/// Key of the metadata entry that holds the hashes of the training pairs, 16 hexadecimal digits each.
const TRAINING_PAIRS: &str = "arc_ttt.training_pairs";

/// The bytes of a `model.safetensors` in f32 that holds a model, and in its metadata what the model may have been trained
/// on. The same model gives the same bytes.
pub fn checkpoint_bytes(model: &Llama, pairs: Option<&TrainingPairs>) -> Vec<u8> {
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = model
        .parameters()
        .into_iter()
        .map(|(name, shape, value)| {
            let values = to_host(&value.cast(DType::F32)).values;
            (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("as many values as the shape says"))
    });
    let mut header = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    if let Some(pairs) = pairs {
        let hashes: Vec<String> = pairs.hashes().iter().map(|h| format!("{h:016x}")).collect();
        header.insert(TRAINING_PAIRS.to_owned(), hashes.concat());
    }
    serialize(views, header)
}

/// What a checkpoint says that it may have been trained on; `None` if it says nothing, as others' do.
///
/// # Errors
/// [`CheckpointError`] if the file cannot be read.
pub fn training_pairs(folder: &Path) -> Result<Option<TrainingPairs>, CheckpointError> {
    let path = folder.join(ONE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes =
        map_file(&path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let Some(text) = header.metadata().as_ref().and_then(|m| m.get(TRAINING_PAIRS)) else {
        return Ok(None);
    };
    let hash = |digits: &[u8; 16]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (hashes, rest) = text.as_bytes().as_chunks::<16>();
    let hashes: Option<Vec<u64>> = hashes.iter().map(hash).collect();
    let hashes = hashes.filter(|_| rest.is_empty());
    let hashes =
        hashes.ok_or_else(|| damaged(format!("`{TRAINING_PAIRS}` is no list of hashes")))?;
    Ok(Some(TrainingPairs::from_hashes(hashes)))
}

/// The tensors that the index names, each with its file.
fn weight_map(folder: &Path) -> Result<Vec<(String, String)>, CheckpointError> {
    let path = folder.join(INDEX);
    let bad =
        |reason: &str| CheckpointError::BadIndex { path: path.clone(), reason: reason.into() };
    let text = std::fs::read_to_string(&path)
        .map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    let index: Value = serde_json::from_str(&text).map_err(|e| bad(&e.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| bad("no object `weight_map`"))?;
    let entry = |(name, file): (&String, &Value)| {
        let file = file.as_str().ok_or_else(|| bad("a file's name is no text"))?;
        // A name with a path in it could lead out of the checkpoint.
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(bad(&format!("`{file}` is no file name")));
        }
        Ok((name.clone(), file.to_owned()))
    };
    map.iter().map(entry).collect()
}

type Shards = (Vec<Shard>, BTreeMap<String, usize>);

/// Maps the files that the index names and checks that they hold what it says, and nothing else.
fn open_shards(folder: &Path) -> Result<Shards, CheckpointError> {
    let mut shards: Vec<Shard> = Vec::new();
    let mut places = BTreeMap::new();
    for (name, file) in weight_map(folder)? {
        let path = folder.join(file);
        let known = shards.iter().position(|shard| shard.path == path);
        let shard = match known {
            Some(shard) => shard,
            None if !path.exists() => {
                return Err(CheckpointError::MissingShard { path, tensor: name });
            }
            None => {
                shards.push(Shard::open(path)?);
                shards.len() - 1
            }
        };
        shards[shard].found(&name)?;
        places.insert(name, shard);
    }
    for (i, shard) in shards.iter().enumerate() {
        if let Some(name) = shard.names().find(|name| places.get(*name) != Some(&i)) {
            let (path, name) = (shard.path.clone(), name.clone());
            return Err(CheckpointError::Unexpected { path, name });
        }
    }
    Ok((shards, places))
}
