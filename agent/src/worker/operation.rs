//! The operations by their numbers (libstore/worker-protocol.hh, `WorkerProto::Op`), and what follows each of those that
//! are refused, so that it can be skipped.

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Is this path there?
    IsValidPath,
    /// Which paths refer to this one?
    QueryReferrers,
    /// Which does this one refer to? Asked by old clients only.
    QueryReferences,
    /// See that the path is there, by whatever means.
    EnsurePath,
    /// See that these are there, by building if need be: `nix copy --from` begins so.
    BuildPaths,
    /// The same, and how did it go?
    BuildPathsWithResults,
    /// Keep this path while I am here: nothing is ever collected here.
    AddTempRoot,
    /// Wait for a garbage collection: there is none.
    SyncWithGc,
    /// Which derivation made this path?
    QueryDeriver,
    /// My settings.
    SetOptions,
    /// Could this path be had from a cache?
    QuerySubstitutablePathInfo,
    /// Could these?
    QuerySubstitutablePathInfos,
    /// Which of these could?
    QuerySubstitutablePaths,
    /// All paths that are there.
    QueryAllValidPaths,
    /// What is known of this path?
    QueryPathInfo,
    /// Which path begins with this hash?
    QueryPathFromHashPart,
    /// Which of these paths are there?
    QueryValidPaths,
    /// Its NAR, please.
    NarFromPath,
    /// Here is a path.
    AddToStoreNar,
    /// What would have to be built or fetched for these?
    QueryMissing,
    /// What was built as this output?
    QueryRealisation,
    /// Here are many paths.
    AddMultipleToStore,
    /// Understood, and not done here.
    Refused(Refused),
}

/// An operation that is for a store with builds, garbage or roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What it would do, for people.
    pub what: &'static str,
    /// What follows it.
    pub rest: &'static [Part],
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A number.
    Number,
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A stream in frames.
    Frames,
}

impl Operation {
    /// The operation of this number; none if what follows it is not known, either.
    pub fn of(number: u64) -> Option<Self> {
        use Part::{Frames, Number, Text, Texts};
        let refused = |what, rest| Some(Self::Refused(Refused { what, rest }));
        match number {
            1 => Some(Self::IsValidPath),
            5 => Some(Self::QueryReferences),
            6 => Some(Self::QueryReferrers),
            7 => refused("adding what is not a finished store path", &[Text, Text, Texts, Number, Frames]),
            8 => refused("adding a text", &[Text, Text, Texts]),
            9 => Some(Self::BuildPaths),
            10 => Some(Self::EnsurePath),
            11 => Some(Self::AddTempRoot),
            12 => refused("adding a root of the garbage collector", &[Text]),
            13 => Some(Self::SyncWithGc),
            14 => refused("listing the roots of the garbage collector", &[]),
            18 => Some(Self::QueryDeriver),
            19 => Some(Self::SetOptions),
            20 => refused("collecting garbage", &[Number, Texts, Number, Number, Number, Number, Number]),
            21 => Some(Self::QuerySubstitutablePathInfo),
            22 => refused("looking into derivations", &[Text]),
            23 => Some(Self::QueryAllValidPaths),
            26 => Some(Self::QueryPathInfo),
            28 => refused("looking into derivations", &[Text]),
            29 => Some(Self::QueryPathFromHashPart),
            30 => Some(Self::QuerySubstitutablePathInfos),
            31 => Some(Self::QueryValidPaths),
            32 => Some(Self::QuerySubstitutablePaths),
            33 => refused("looking for derivations", &[Text]),
            34 => refused("optimising the store", &[]),
            35 => refused("verifying the store", &[Number, Number]),
            37 => refused("adding signatures", &[Text, Texts]),
            38 => Some(Self::NarFromPath),
            39 => Some(Self::AddToStoreNar),
            40 => Some(Self::QueryMissing),
            41 => refused("looking into derivations", &[Text]),
            42 => refused("registering a realisation", &[Text]),
            43 => Some(Self::QueryRealisation),
            44 => Some(Self::AddMultipleToStore),
            45 => refused("adding a build log", &[Text, Frames]),
            46 => Some(Self::BuildPathsWithResults),
            47 => refused("adding a root of the garbage collector", &[Text, Text]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_nixs() {
        assert_eq!(Operation::of(44), Some(Operation::AddMultipleToStore));
        assert_eq!(Operation::of(26), Some(Operation::QueryPathInfo));
        assert!(matches!(Operation::of(34), Some(Operation::Refused(refused)) if refused.rest.is_empty()));
        // A derivation follows, of which only its parser knows the end; and what nobody has thought of yet.
        for unknown in [0, 2, 36, 48, 1 << 63, u64::MAX] {
            assert_eq!(Operation::of(unknown), None, "{unknown}");
        }
    }
}
