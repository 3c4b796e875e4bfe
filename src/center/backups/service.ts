import type { CenterService } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import type { Handlers } from '../../rpc/types.js';

type BackupHandlers = Pick<
  Handlers<typeof CenterService>,
  'reportBackups' | 'uploadBackup' | 'fetchBackup' | 'listBackups' | 'getBackup' | 'listBackupPlans'
>;

function unserved(): MusterError {
  return new MusterError('unimplemented', 'this center does not serve backups yet: upgrade it');
}

export function backupHandlers(): BackupHandlers {
  return {
    reportBackups: () => Promise.reject(unserved()),
    uploadBackup: () => Promise.reject(unserved()),
    fetchBackup: () => {
      throw unserved();
    },
    listBackups: () => Promise.reject(unserved()),
    getBackup: () => Promise.reject(unserved()),
    listBackupPlans: () => Promise.reject(unserved()),
  };
}
