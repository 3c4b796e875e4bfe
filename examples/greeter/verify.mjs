/** Run by the agent after each deploy, before the new version is trusted: does it greet by name? Ends with 1 where not. */
const HTTP_PORT = Number(process.env.HTTP_PORT ?? 8090);
const NAME = 'verify';

const response = await fetch(`http://127.0.0.1:${HTTP_PORT}/?name=${NAME}`);
const text = (await response.text()).trim();
if (response.status !== 200 || !text.includes(NAME)) {
  console.log(`asked to greet "${NAME}", it answered ${response.status} ${JSON.stringify(text)}`);
  process.exit(1);
}
