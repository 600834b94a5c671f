// Package redisbus reads alerts from Redis Pub/Sub and Redis Streams, keeps dead letters and publishes documents.
//
// A Stream is at-least-once: an entry leaves the group's pending list only after its delivery is settled.
// A PubSub is at-most-once by nature: every loss the client can know of is counted and handed over as a Note.
// One entry is one document, in a field of its own:
//
//	XADD alerts * alert '{"id":"…","level":"HIGH"}'
//
// The package knows nothing of what a document means, and no type of the Redis client leaves it.
package redisbus
