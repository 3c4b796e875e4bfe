/** What an archive may hold. The whole archive is refused when it goes beyond one of these. */
export interface ArchiveLimits {
  /** Files, directories and links. */
  readonly entriesMax: number;
  /** Of all its files, uncompressed, with what tar adds to each of them. */
  readonly unpackedBytesMax: number;
  /** Uncompressed bytes for each compressed one, counted once RATIO_FREE_BYTES are uncompressed. */
  readonly ratioMax: number;
  /** Of one path, in UTF-8. */
  readonly pathBytesMax: number;
  /** Directories and the name in one path. */
  readonly depthMax: number;
}

/** Small archives may be as compressible as they like: one of some empty files is no bomb. */
export const RATIO_FREE_BYTES = 16 * 1_048_576;

/** A file system takes no longer name. */
export const NAME_BYTES_MAX = 255;

export const RELEASE_LIMITS: ArchiveLimits = {
  entriesMax: 200_000,
  unpackedBytesMax: 8 * 1_073_741_824,
  ratioMax: 200,
  pathBytesMax: 1024,
  depthMax: 64,
};

/** Of a backup the machine itself makes: its files may be large, and as compressible as zlib can. */
export const BACKUP_LIMITS: ArchiveLimits = {
  entriesMax: 5_000_000,
  unpackedBytesMax: 16 * 1_099_511_627_776,
  ratioMax: 1100,
  pathBytesMax: 3072,
  depthMax: 256,
};
