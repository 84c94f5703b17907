// Package mqtt brings what sightd sees to an MQTT 3.1.1 broker.
//
// What its user must know first:
//
//   - There are two kinds of traffic. An event ([Client.Publish]) goes through
//     an [Outbox] and reaches the broker at least once, in order, across lost
//     connections; a subscriber that keeps the ids sees it once. A state
//     ([Client.SetState]) is retained, and only the latest counts: what was
//     overwritten before it could be sent is never sent.
//   - Neither waits for the network or a disk. The outbox ([OpenOutbox]) keeps
//     events in a file, as [Durability] says; it is bounded by bytes, age and
//     count, and what its bounds drop is counted by cause in [Stats].
//   - Commands are obeyed where [Options] name them: noted in a file before they
//     are done, so that none is done twice.
//   - [Client.Run] owns the connection: it connects, reads credentials and
//     certificates anew for every session, and comes back with a growing,
//     jittered pause. Before its context ends, [Client.Drain] waits for what is
//     still to be delivered.
//   - While a session lasts, PREFIX/DEVICE/status holds a retained `online`;
//     the broker turns it into `offline` by itself when the device vanishes.
//
// paho.mqtt.golang is used for the protocol alone. Its own reconnecting, stores
// and queues are off: with them, an event can be reported as delivered that the
// broker never acknowledged.
//
// [StartBroker] is a small broker inside the process, for demos and single
// boxes.
package mqtt
