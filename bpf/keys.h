/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of things: keys and values of the maps, and the records of the rings.
 *
 * All of it is shared with src/throughway/dataplane/abi.py, which a test holds equal to the BTF of
 * the built object. Addresses, SPIs on the wire and ports are in network order; the discriminator is a
 * number in host order.
 *
 * A flow is one direction of one tunnel:
 *
 *   0               4               8                              16
 *   +---------------+---------------+-------------------------------+
 *   | host, or slot | peer          | discriminator                 |
 *   +---------------+---------------+-------------------------------+
 *   | proto | dir   | port  | zero  |
 *   +---------------+---------------+
 *
 * Towards the inside the host is what is looked for. In its place is the slot of the address of ours that the
 * peer sent to, since what a peer sends to two addresses are two tunnels, whatever names them. Towards the peer
 * the host is part of the key, so that no host can touch another one's flow.
 *
 * Our addresses outside have slots, from 0 on. When one takes the place of another it takes its slot too, and all
 * flows follow it at once.
 *
 * What tells two tunnels of a protocol apart, as src/throughway/core/discriminators.py has it:
 *
 *   protocol            discriminator                             where it is
 *   ESP           50    SPI                                       RFC 4303 section 2.1
 *   GRE           47    version 0 with a key: 1 << 32 | key       RFC 2890 section 2.1
 *                       version 0 without a key: 0                RFC 2784 section 2.1
 *   L2TPv3       115    data: session ID                          RFC 3931 section 4.1.1.1
 *                       control: 1 << 32 | connection ID          RFC 3931 sections 3.2.1, 4.1.1.2
 *   UDP, 500      17    initiator SPI, 64 bits                    RFC 7296 section 3.1, RFC 2408 section 3.1
 *   UDP, 1701     17    L2TPv2: 3 << 32 | tunnel ID               RFC 2661 section 3.1
 *                       L2TPv3: as above                          RFC 3931 section 4.1.2
 *   any other           0                                         there is none to be found
 *
 * UDP has flows only where both ends use one of these two ports, and only with peers for which the port is kept. The
 * port is in the key then, in host order, and 0 for every protocol without ports.
 */
#ifndef THROUGHWAY_KEYS_H
#define THROUGHWAY_KEYS_H

#include <linux/bpf.h>
#include <linux/types.h>

#define LAYOUT_VERSION 6
#define SLOTS_MAX 16
#define SHORT_INSIDES_MAX 16
#define PROTOCOL_WORDS 8 /* 256 bits */
#define FAN_OUT_MAX 64
#define HELD_PER_FLOW_MAX 64

enum direction {
	TO_INSIDE = 0,
	TO_PEER = 1,
};

struct flow_key {
	__be32 host; /* TO_INSIDE: the slot of our address, in host order */
	__be32 peer;
	__u64 discriminator;
	__u8 protocol;
	__u8 direction;
	__u16 port;
	__u32 zero32;
};

/* A decided flow. host is 0 for what is the router's own. */
#define MAPPING_ACTIVE 1u  /* clear while held packets are being put back */
#define MAPPING_FAN_OUT 2u /* the hosts are in fan_outs, under the same key */
#define MAPPING_TRACED 4u  /* the times of its packets go to traces, under the same key */

struct mapping {
	__be32 host;
	__u32 flags;
	__u64 packets;
	__u64 bytes;
	__u64 last_ns;    /* CLOCK_MONOTONIC, coarse */
	__u64 created_ns;
	__u32 slot;       /* TO_PEER: of our address that the flow is sent from */
	__u32 zero32;
};

struct fan_out {
	__u32 count;
	__be32 hosts[FAN_OUT_MAX]; /* the last one gets the original packet */
};

/* When the packets of a traced flow came: the first of each burst, which begins TRACE_GAP_NS or more after the packet
 * before it. The latest time is at (noted - 1) % TRACE_TIMES.
 */
#define TRACE_TIMES 64
#define TRACE_GAP_NS 10000000ull

struct trace {
	__u64 last_ns; /* CLOCK_MONOTONIC, exact, as are the times */
	__u32 noted;
	__u32 zero32;
	__u64 times_ns[TRACE_TIMES];
};

/* An undecided flow, one whose held packets are being put back, or one that is refused.
 *
 *   (absent) --first packet--> WAITING --verdict--> DRAINING --last held packet passed--> DONE
 *                                 \--refusal--> REFUSED --packet after until_ns--> WAITING
 *
 * A verdict while nothing is held leads to DONE at once. DONE with no mapping (it was removed since)
 * goes back to WAITING with the next packet.
 *
 * The state test and `punted++` happen under one lock, so nothing can be held after the flip.
 */
enum pending_state {
	PENDING_WAITING = 0,
	PENDING_DRAINING = 1,
	PENDING_DONE = 2,
	PENDING_REFUSED = 3,
};

struct pending {
	struct bpf_spin_lock lock;
	enum pending_state state;
	__u32 punted;     /* packets handed to the daemon: the next sequence number */
	__u32 reinjected; /* packets that came back and passed */
	__u32 dropped;
	__u32 drain_cap;  /* once draining, punted may grow to this and no further */
	__u64 since_ns;
	__u64 until_ns;   /* REFUSED: asked about again after this */
};

/* The owner of a flow towards a peer, for ICMP errors that quote our translated packets. */
struct sender_key {
	__be32 peer;
	__u16 protocol;
	__u16 port;
	__u64 discriminator;
	__u32 slot; /* of our address that the packet was sent from */
	__u32 zero32;
};

/* Which ports hosts keep with a peer, instead of having them translated: the value of `kept_ports`. */
#define KEPT_IKE 1u
#define KEPT_L2TP 2u

/* Later fragments carry no discriminator. They belong to the flow of their first one, which is remembered
 * by what all fragments of a packet share (RFC 791 section 3.2). The flow and not the host is remembered:
 * it may be fanned out, or still be undecided.
 *
 *   (absent) --first fragment------------------------------> KNOWN, or PASSES if it is none of our business
 *       \--later fragment, held--> AWAITED --first fragment---^ the daemon is told to put back what it holds
 *
 * An IP ID comes again after 65,536 packets, so an entry ends: FRAGMENT_FRESH_NS after the first fragment,
 * or FRAGMENT_REUSED_NS after the packet is complete. From then on a later fragment is held like one whose
 * first was never seen.
 */
#define FRAGMENT_FRESH_NS 30000000000ull
#define FRAGMENT_REUSED_NS 1000000000ull

enum fragment_state {
	FRAGMENT_AWAITED = 0,
	FRAGMENT_KNOWN = 1,
	FRAGMENT_PASSES = 2,
};

struct fragment_key {
	__be32 source;
	__be32 destination;
	__be16 id;
	__u8 protocol;
	__u8 direction;
};

struct fragment {
	struct flow_key key;
	__u64 until_ns;
	__u32 seen;  /* bytes of payload in the fragments that came */
	__u32 total; /* bytes of payload of the whole packet, once its last fragment told them */
	enum fragment_state state;
	__u32 zero32;
};

/* A token bucket. For peers it also says that somebody here has spoken to this one. LRU maps take no
 * lock; a lost race costs a token more or less.
 */
struct budget {
	__u32 tokens;
	__u32 by_host; /* of a peer: a host has spoken to it, and not the router alone */
	__u64 refilled_ns;
};

/* What a sender fills of what all senders use; share.h has the rule. */
struct share {
	__u32 flows;       /* entries of `pending` */
	__u32 ring_before; /* bytes written to the ring before ring_until that may be unread */
	__u32 ring_now;    /* bytes written since */
	__u32 zero32;
	__u64 ring_until;  /* a position of the ring */
};

/* One entry, written by the daemon before anything is attached, and when an address changes. */
struct config {
	__u32 layout_version;
	__u32 slot_count;       /* 0: translate nothing */
	__be32 addresses[SLOTS_MAX]; /* ours, outside, by slot; 0 where a slot is empty */
	__u32 outside_ifindex;
	__u32 link_header_size; /* of the outside interface: 14, or 0 for TUN and PPP */
	__u32 mark_mask;        /* the bits that are ours */
	__u32 mark_carried;
	__u32 mark_reinjected;
	__u32 punts_per_peer;   /* a second; also the burst */
	__u32 punts_per_host;
	__u32 ike_per_address;  /* observed messages: IKE and all others */
	__u32 fragments_per_address;
	__u32 ports_kept;       /* KEPT_IKE, KEPT_L2TP: with every peer */
	__u32 check_source;     /* packets that go around forwarding are held to reverse path filtering */
	__u32 pending_max;      /* the size of the table of undecided flows */
	__u64 short_until_ns;   /* CLOCK_MONOTONIC; until then known flows may go around the stack's forwarding */
	__u32 insides[SHORT_INSIDES_MAX]; /* indexes of inside interfaces that they may leave by; 0 behind the last */
	__u32 unassisted[PROTOCOL_WORDS]; /* a bit for each IP protocol that the kernel carries as it would without us */
};

/* The record of the ring `punts`. Two sizes of reservation; `size` is how much of `frame` is filled.
 * The frame begins with the link header, so that it can be put back as it was.
 */
enum punt_kind {
	PUNT_HELD = 0,           /* the packet waits in the daemon's hands */
	PUNT_COPY = 1,           /* the router's own packet, which went on */
	PUNT_FRAGMENT = 2,       /* a later fragment waits for its first one */
	PUNT_FIRST_FRAGMENT = 3, /* that first one has come; there is no frame */
};

struct punt {
	enum punt_kind kind;
	__u32 sequence; /* in the order in which the packets of this flow were held */
	__u32 size;
	__u32 link_header_size;
	__u64 at_ns;
	struct flow_key key;          /* of a later fragment only direction, protocol and addresses */
	struct fragment_key fragment; /* of the last two kinds, else 0 */
	__u32 slot;                   /* COPY: of our address that the router sent it from */
	/* followed by __u8 frame[] */
};

#define FRAME_SMALL 1664 /* an Ethernet frame of 1,500 bytes with room for tags */
#define FRAME_LARGE 9216

/* The record of the ring `observed`: something that is evidence, and that passed us or was refused. */
enum observed_kind {
	OBSERVED_IKE = 0,      /* the header of an IKE message */
	OBSERVED_CONTROL = 1,  /* the head of a control message of L2TP; over IP, behind the session ID of 0 */
	OBSERVED_AH = 2,       /* a host sends AH, which the packet filter refuses */
	OBSERVED_DISOWNED = 3, /* a host says by ICMP that it cannot take a packet of this flow */
};

#define IKE_HEADER_SIZE 28
#define CONTROL_MESSAGE_MAX 512

struct observed {
	enum observed_kind kind;
	__be32 host; /* 0 for the router */
	__be32 peer;
	__u16 size;   /* of the message as it was on the wire, this fragment of it */
	__u16 filled; /* bytes of it that follow */
	__u64 discriminator; /* DISOWNED: of the flow towards the inside */
	__u64 at_ns;
	__u8 protocol;
	__u8 direction;
	__u8 floated; /* IKE: UDP 4500, behind the non-ESP marker */
	__u8 code;    /* DISOWNED: of ICMP destination unreachable */
	__u16 slot;   /* of our address that the router sent it from; 0 of a host */
	__u16 host_port; /* of UDP: in host order, at the host's end; 0 for protocols without ports */
	/* followed by __u8 message[] */
};

/* What was observed of one flow and need not be said again for REPORT_AGAIN_NS. The value is when it was. */
#define REPORT_AGAIN_NS 1000000000ull

struct report_key {
	__be32 host;
	__be32 peer;
	__u64 discriminator;
	enum observed_kind kind;
	__u32 protocol;
};

/* What the daemon asks of the program `control`, by BPF_PROG_TEST_RUN: the data is this struct behind
 * 14 bytes of link header. A map update from user space would overwrite counters and locks.
 */
enum control_op {
	CONTROL_DECIDE = 0,   /* hosts[0..count) own the flow: install, and drain what is held */
	CONTROL_REFUSE = 1,   /* refuse until until_ns */
	CONTROL_WATCHDOG = 2, /* nothing more will be put back: open if punted == expected */
	CONTROL_TRACE = 3,    /* note the times of packets in traces, where the daemon has made an entry */
	CONTROL_UNTRACE = 4,  /* note them no more */
	CONTROL_FORGET = 5,   /* the flow is not undecided any more: it has its mapping, or nobody asks */
};

struct control_request {
	enum control_op op;
	__u32 count;
	struct flow_key key;
	__be32 hosts[FAN_OUT_MAX];
	__u64 until_ns;
	__u32 expected;
	__u32 slot; /* DECIDE, TO_PEER: of our address to send from */
};

#endif
