import { connect } from 'muster';
import { Counter } from 'muster/counter';

/** What is said, and how often it was. The word comes from this service's configuration and changes while it runs. */

const DEFAULTS = { greeting: 'Hello' };
const NAME_CHARACTERS_MAX = 100;

const greetings = new Counter('greetings', { help: 'Greetings said, over HTTP and gRPC' });

export class Greeting {
  #word = DEFAULTS.greeting;

  /** Throws where the configuration is not usable: the library tells who published it, and the word stays. */
  use({ greeting }) {
    if (typeof greeting !== 'string' || greeting.trim() === '') {
      throw new Error(`greeting must be some text, not ${JSON.stringify(greeting)}`);
    }
    this.#word = greeting;
  }

  /** Counts, too. */
  of(name) {
    greetings.increment();
    return `${this.#word}, ${name.slice(0, NAME_CHARACTERS_MAX) || 'world'}!`;
  }
}

/** Follows the configuration; without an agent the defaults stay. Returns how to end it, which hands over the last counts too. */
export async function follow(greeting, log) {
  const muster = await connect({ defaults: DEFAULTS });
  muster.onChange((config, { revision }) => {
    greeting.use(config);
    log(`configuration revision ${revision} in use`);
  });
  try {
    greeting.use(muster.config());
  } catch (error) {
    muster.refuse(error);
    log(`configuration revision ${muster.revision} not used: ${error.message}`);
  }
  return () => muster.close();
}
