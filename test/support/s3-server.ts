import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

/**
 * As much of S3 as copies need, in memory: put, get, head, delete and uploads in parts, each request's signature (version 4) checked from what
 * Amazon describes in "Create a signed AWS API request", not by the code that signs.
 */
export interface S3Server {
  readonly endpoint: string;
  readonly objects: Map<string, Buffer>;
  readonly accessKey: string;
  readonly secretKey: string;
  /** Requests that were refused. */
  readonly refused: string[];
  /** Parts that were begun and neither completed nor aborted. */
  readonly uploads: Map<string, Map<number, Buffer>>;
  /** Answers every request so while it is set. */
  failing: number | undefined;
}

const REGION = 'eu-test-1';

export async function s3Server(t: TestContext): Promise<S3Server> {
  const state = {
    endpoint: '',
    objects: new Map<string, Buffer>(),
    accessKey: 'AKIDTEST',
    secretKey: 'very/secret+key',
    refused: [] as string[],
    uploads: new Map<string, Map<number, Buffer>>(),
    failing: undefined as number | undefined,
  };
  const server: Server = createServer((request, response) => {
    void answer(state, request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  t.after(() => {
    server.closeAllConnections();
  });
  state.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

async function answer(state: S3Server, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request);
  const url = new URL(request.url ?? '/', state.endpoint);
  const problem = state.failing === undefined ? signatureProblem(state, request, url) : 'it fails';
  if (problem !== undefined) {
    state.refused.push(`${request.method ?? ''} ${url.pathname}: ${problem}`);
    const xml = `<Error><Code>SignatureDoesNotMatch</Code><Message>${problem}</Message></Error>`;
    response.writeHead(state.failing ?? 403, { 'content-type': 'application/xml' }).end(xml);
    return;
  }
  const key = decodeURIComponent(url.pathname.slice(1));
  const upload = url.searchParams.get('uploadId');
  if (request.method === 'POST' && url.searchParams.has('uploads')) {
    const id = `u${state.uploads.size + 1}`;
    state.uploads.set(id, new Map());
    xml(response, `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  } else if (upload !== null) inParts(state, response, { method: request.method, url, key, upload, body });
  else whole(state, response, { method: request.method, key, body });
}

function inParts(
  state: S3Server,
  response: ServerResponse,
  {
    method,
    url,
    key,
    upload,
    body,
  }: { method: string | undefined; url: URL; key: string; upload: string; body: Buffer },
): void {
  const parts = state.uploads.get(upload);
  if (!parts) {
    response.writeHead(404).end();
  } else if (method === 'PUT') {
    parts.set(Number(url.searchParams.get('partNumber')), body);
    response.writeHead(200, { etag: etagOf(body) }).end();
  } else if (method === 'POST') {
    const order = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, number]) => Number(number));
    const content = Buffer.concat(order.map((number) => parts.get(number) ?? Buffer.alloc(0)));
    state.objects.set(key, content);
    state.uploads.delete(upload);
    xml(response, `<CompleteMultipartUploadResult><ETag>${etagOf(content)}</ETag></CompleteMultipartUploadResult>`);
  } else {
    state.uploads.delete(upload);
    response.writeHead(204).end();
  }
}

function whole(
  state: S3Server,
  response: ServerResponse,
  { method, key, body }: { method: string | undefined; key: string; body: Buffer },
): void {
  const content = state.objects.get(key);
  if (method === 'PUT') {
    state.objects.set(key, body);
    response.writeHead(200, { etag: etagOf(body) }).end();
  } else if (method === 'DELETE') {
    state.objects.delete(key);
    response.writeHead(204).end();
  } else if (!content) response.writeHead(404).end();
  else {
    response.writeHead(200, { 'content-length': content.length, etag: etagOf(content) });
    response.end(method === 'HEAD' ? undefined : content);
  }
}

function xml(response: ServerResponse, content: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' }).end(content);
}

function etagOf(content: Buffer): string {
  return `"${createHash('md5').update(content).digest('hex')}"`;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=(?<access>[^/]+)\/(?<scope>(?<day>\d{8})\/(?<region>[^/]+)\/s3\/aws4_request),\s*SignedHeaders=(?<names>[^,]+),\s*Signature=(?<signature>[0-9a-f]{64})$/;

/** Why the request is not signed by the owner of the keys; undefined when it is. */
function signatureProblem(state: S3Server, request: IncomingMessage, url: URL): string | undefined {
  const found = AUTHORIZATION.exec(request.headers.authorization ?? '')?.groups;
  if (!found) return 'no signature';
  const part = (name: string): string => found[name] ?? '';
  const [access, scope, day, region] = [part('access'), part('scope'), part('day'), part('region')];
  const [names, signature] = [part('names'), part('signature')];
  if (access !== state.accessKey) return 'unknown access key';
  if (region !== REGION) return `wrong region ${region}`;
  if (!names.split(';').includes('host')) return 'the host is not signed';
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, hash(canonicalOf(request, url, names))];
  const key = [day, region, 's3', 'aws4_request'].reduce<Buffer | string>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${state.secretKey}`,
  );
  const right = createHmac('sha256', key).update(text.join('\n')).digest('hex');
  return right === signature ? undefined : 'wrong signature';
}

function canonicalOf(request: IncomingMessage, url: URL, names: string): string {
  const valueOf = (name: string): string => [request.headers[name] ?? ''].flat().join(',').trim();
  const headers = names.split(';').map((name) => `${name}:${valueOf(name)}\n`);
  const query = [...url.searchParams]
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .sort();
  const payload = valueOf('x-amz-content-sha256');
  return [request.method, url.pathname, query.join('&'), headers.join(''), names, payload].join('\n');
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The text of a machine's s3.yaml. */
export function s3Yaml({ endpoint, accessKey }: S3Server, secretKey: string): string {
  return `endpoint: ${endpoint}\nbucket: backups\nregion: ${REGION}\naccess_key: ${accessKey}\nsecret_key: ${secretKey}\n`;
}
