/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of things: keys and values of the maps, and the records of the rings.
 *
 * All of it is shared with src/throughway/dataplane/abi.py, which a test holds equal to the BTF of
 * the built object. Addresses, SPIs on the wire and ports are in network order unless the name ends
 * in _host; the discriminator is a number in host order.
 *
 * A flow is one direction of one tunnel:
 *
 *   0               4               8                              16
 *   +---------------+---------------+-------------------------------+
 *   | host          | peer          | discriminator                 |
 *   +---------------+---------------+-------------------------------+
 *   | proto | dir   | zero          |
 *   +---------------+---------------+
 *
 * Towards the inside the host is what is looked for, and 0 in the key. Towards the peer it is part of
 * the key, so that no host can touch another one's flow.
 */
#ifndef THROUGHWAY_KEYS_H
#define THROUGHWAY_KEYS_H

#include <linux/types.h>

#define LAYOUT_VERSION 1
#define FAN_OUT_MAX 16
#define HELD_PER_FLOW_MAX 64

enum direction {
	TO_INSIDE = 0,
	TO_PEER = 1,
};

struct flow_key {
	__be32 host;
	__be32 peer;
	__u64 discriminator;
	__u8 protocol;
	__u8 direction;
	__u16 zero16;
	__u32 zero32;
};

/* A decided flow. host is 0 for what is the router's own. */
#define MAPPING_ACTIVE 1u  /* clear while held packets are being put back */
#define MAPPING_FAN_OUT 2u /* the hosts are in fan_outs, under the same key */

struct mapping {
	__be32 host;
	__u32 flags;
	__u64 packets;
	__u64 bytes;
	__u64 last_ns;    /* CLOCK_MONOTONIC, coarse */
	__u64 created_ns;
};

struct fan_out {
	__u32 count;
	__be32 hosts[FAN_OUT_MAX]; /* the last one gets the original packet */
};

/* An undecided flow, or one whose held packets are being put back, or one that is refused. */
enum pending_state {
	PENDING_WAITING = 0,
	PENDING_DRAINING = 1,
	PENDING_DONE = 2,
	PENDING_REFUSED = 3,
};

#endif
