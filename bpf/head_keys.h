/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of what heads.h keeps and tells. Shared with src/throughway/dataplane/head_abi.py, which a test holds equal
 * to the BTF of the built object. Nothing of it outlives the daemon: these tables are made anew at each start.
 *
 * A flow is both directions of what a device and a peer say to each other between two ports:
 *
 *   0               4               8       10      12      13              16
 *   +---------------+---------------+-------+-------+-------+---------------+
 *   | host          | peer          | host's| peer's| proto | zero          |
 *   |               |               | port  | port  |       |               |
 *   +---------------+---------------+-------+-------+-------+---------------+
 */
#ifndef THROUGHWAY_HEAD_KEYS_H
#define THROUGHWAY_HEAD_KEYS_H

#include <linux/types.h>

#define HEAD_PACKETS_MAX 8    /* packets with a payload that are looked at, each way */
#define HEAD_SIZE_MAX 1536    /* bytes of a payload that are copied, at the most; the daemon asks for fewer */
#define HEAD_STREAM_MAX 2048  /* bytes from the beginning of a TCP stream that detection reads */
#define HEAD_FILTERS_MAX 128
#define HEAD_WORDS 3

struct head_key {
	__be32 host;
	__be32 peer;
	__be16 host_port;
	__be16 peer_port;
	__u8 protocol;
	__u8 zero8;
	__u16 zero16;
};

/* What is known of a flow:
 *
 *   (absent) --first payload, or SYN--> WATCHED --a filter fits--> BEGUN: each packet is copied
 *                                          \                        /
 *                                           \--- used up -> DONE <-/--- the daemon has decided
 */
enum head_state {
	HEAD_WATCHED = 0,
	HEAD_BEGUN = 1,
	HEAD_DONE = 2,
};

struct head_flow {
	__u32 begins_at[2]; /* by direction: the sequence number of the first byte of a TCP stream */
	__u16 generation;   /* of the filters; what older ones said is not known any more */
	__u8 state;
	__u8 initiator;     /* the direction of the first packet */
	__u8 seen[2];       /* packets with a payload, by direction */
	__u8 has_begun[2];  /* TCP: whether the SYN of this direction was seen */
};

/* Up to eight bytes of a payload that a filter fixes. Where `like` is not 0 they are compared with the bytes there
 * and not with `value`. With `differs` they must not be equal.
 */
struct head_word {
	__u64 mask;
	__u64 value;
	__u16 offset;
	__u16 like;
	__u32 differs;
};

#define HEAD_PORT_OF_RESPONDER 1u /* the port is that of the end that answers; else either end's will do */
#define HEAD_SHORT_FITS 2u        /* a payload of less than `needs` bytes fits: the rest of the stream may */
#define HEAD_OF_INITIATOR 4u      /* only what the end that began sends */
#define HEAD_OF_RESPONDER 8u

/* What a payload must have for the daemon to see it. */
struct head_filter {
	__u64 first[4]; /* a bit for each value that the first byte may have */
	struct head_word words[HEAD_WORDS];
	__u16 size_min; /* of the payload on the wire */
	__u16 size_max;
	__u16 port_min; /* host order; 0 to 65535 for any */
	__u16 port_max;
	__u16 needs;    /* bytes of payload that the words reach into */
	__u8 protocol;
	__u8 flags;
	__u32 zero32;
};

/* One entry, written by the daemon. While `count` is 0 nothing is looked at. */
struct head_rules {
	__u32 count;
	__u16 generation;
	__u16 size_max; /* bytes of a payload that are copied */
	__u32 per_host; /* heads a second, and the burst */
	__u32 per_peer;
	struct head_filter filters[HEAD_FILTERS_MAX];
};

/* TLS between a device and a port: which port of the other end had it last. AnyConnect's DTLS has TLS beside it. */
struct head_tls_key {
	__be32 host;
	__be32 peer;
	__be16 responder_port;
	__u8 initiator;
	__u8 zero8;
};

/* The record of the ring `heads_seen`. */
struct head {
	struct head_key key;
	__u64 at_ns;        /* CLOCK_MONOTONIC, coarse */
	__u32 stream_at;    /* TCP: where in its stream the payload begins */
	__u16 size;         /* of the payload on the wire, this fragment's and those behind it */
	__u16 filled;       /* bytes of it that follow */
	__u8 direction;
	__u8 initiator;
	__u8 is_first;      /* nothing of this flow was copied before */
	__u8 is_last;       /* nothing more of it will be, but after a change of the filters */
	__be16 tls_port;    /* UDP: the initiator's port of TLS to the same port, or 0 */
	__u16 zero16;
	/* followed by __u8 payload[] */
};

enum head_count {
	HEAD_COPIED = 0,
	HEAD_RING_FULL = 1,
	HEAD_OVER_BUDGET = 2,
	HEAD_COUNT_MAX = 4,
};

#endif
