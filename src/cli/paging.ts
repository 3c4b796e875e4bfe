/** Page size asked for by commands that show everything. */
const PAGE_SIZE = 1000;

/** All items of a paged list, page after page. */
export async function allPages<Page extends { readonly nextPageToken: string }, Item>(
  fetch: (page: { pageSize: number; pageToken: string }) => Promise<Page>,
  items: (page: Page) => readonly Item[],
): Promise<Item[]> {
  const all: Item[] = [];
  let pageToken = '';
  do {
    const page = await fetch({ pageSize: PAGE_SIZE, pageToken });
    all.push(...items(page));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return all;
}
