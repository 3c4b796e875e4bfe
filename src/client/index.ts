/** `muster`: what services link. */
export { connect, Muster, type ChangeInfo, type ConnectOptions, type ServiceCertificate } from './muster.js';
export { MusterError } from '../kit/errors.js';
