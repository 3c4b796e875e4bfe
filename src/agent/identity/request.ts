export { certificateRequest, generateKey } from '../../rpc/certificate-request.js';
