import type { Contributor } from './group-commit.js';
import type { Change } from './log/port.js';

/** A sequence, and the offset of the batch that holds it. */
export interface Place {
  readonly head: number;
  readonly offset: number;
}

/**
 * Where a topic's messages begin: those below are gone. Moves for two reasons that can meet in one group: everything below is settled (this
 * contributor), or a batch that comes needs the room (the topic's own part, through further()). What is written last is always the furthest.
 * Essential: on a nearly full disk, where nothing may be published, moving it is what makes room.
 */
export class TopicHead implements Contributor {
  readonly essential = true;
  readonly #topicId: number;
  readonly #onMoved: (head: number) => void;
  #durable: Place;
  #wanted: Place | undefined;
  /** The furthest place in the group that is being written. */
  #inGroup: Place | undefined;
  /** What this contributor itself has put into the group: all that is written when the topic's own part is refused. */
  #contributed: Place | undefined;

  constructor(topicId: number, durable: Place, onMoved: (head: number) => void) {
    this.#topicId = topicId;
    this.#durable = durable;
    this.#onMoved = onMoved;
  }

  get durable(): Place {
    return this.#durable;
  }

  /** Moves there with the next group this contributes to. */
  want(place: Place): void {
    this.#wanted = place;
  }

  /** The furthest of all known places and this one, which is in the group from now on. */
  further(place = this.#wanted): Place {
    const before = this.#inGroup ?? this.#durable;
    const further = place && place.head > before.head ? place : before;
    this.#inGroup = further;
    return further;
  }

  contribute(): readonly Change[] {
    this.#contributed = this.further();
    return this.changeTo(this.#contributed);
  }

  committed(): void {
    if (this.#contributed) this.moved(this.#contributed);
    this.#contributed = undefined;
  }

  refused(): void {
    this.#contributed = undefined;
    this.leave();
  }

  /** What moves the head there, for a part that stores it with changes of its own and then calls moved() or leave(). */
  changeTo({ head, offset }: Place): readonly Change[] {
    return head > this.#durable.head ? [{ kind: 'head', topicId: this.#topicId, head, offset }] : [];
  }

  /** This place is durable. */
  moved(place: Place): void {
    this.#inGroup = undefined;
    if (place.head <= this.#durable.head) return;
    this.#durable = place;
    this.#onMoved(place.head);
  }

  /** What was put into the group is not in it any more. */
  leave(): void {
    this.#inGroup = undefined;
  }
}
