import type { CenterService } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import type { Handlers } from '../../rpc/types.js';

type ReleaseHandlers = Pick<
  Handlers<typeof CenterService>,
  | 'enrollSigningKey'
  | 'listSigningKeys'
  | 'revokeSigningKey'
  | 'getUpload'
  | 'uploadArtifact'
  | 'putRelease'
  | 'listReleases'
  | 'getRelease'
  | 'removeRelease'
  | 'putModule'
  | 'listModules'
  | 'getModule'
  | 'removeModule'
  | 'fetchArtifact'
>;

function unserved(): MusterError {
  return new MusterError('unimplemented', 'this center does not serve releases yet: upgrade it');
}

export function releaseHandlers(): ReleaseHandlers {
  return {
    enrollSigningKey: () => Promise.reject(unserved()),
    listSigningKeys: () => Promise.reject(unserved()),
    revokeSigningKey: () => Promise.reject(unserved()),
    getUpload: () => Promise.reject(unserved()),
    uploadArtifact: () => Promise.reject(unserved()),
    putRelease: () => Promise.reject(unserved()),
    listReleases: () => Promise.reject(unserved()),
    getRelease: () => Promise.reject(unserved()),
    removeRelease: () => Promise.reject(unserved()),
    putModule: () => Promise.reject(unserved()),
    listModules: () => Promise.reject(unserved()),
    getModule: () => Promise.reject(unserved()),
    removeModule: () => Promise.reject(unserved()),
    fetchArtifact: () => {
      throw unserved();
    },
  };
}
