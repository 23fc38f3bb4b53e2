// The error type of the embedded cluster: the problem, the folder and the mend.

type EmbeddedClusterErrorCode =
  | 'already_running'
  | 'folder_not_accessible'
  | 'binaries_missing'
  | 'port_taken'
  | 'start_failed';

interface EmbeddedClusterErrorDetails {
  folder: string;
  /** How to solve the problem: a command or an instruction. */
  mend: string;
  cause?: unknown;
}

/** Thrown by `startCluster`. Its message contains the problem, the folder and the mend. */
export class EmbeddedClusterError extends Error {
  readonly code: EmbeddedClusterErrorCode;
  readonly folder: string;
  readonly mend: string;

  constructor(code: EmbeddedClusterErrorCode, problem: string, details: EmbeddedClusterErrorDetails) {
    super(`${problem}\n  where: ${details.folder}\n  mend: ${details.mend}`, details);
    this.name = 'EmbeddedClusterError';
    this.code = code;
    this.folder = details.folder;
    this.mend = details.mend;
  }
}
