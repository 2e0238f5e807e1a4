/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a payload may be a VPN's: the filters that the daemon makes of the catalogue (src/throughway/detect/prefilters.py
 * says the same in Python).
 */
#ifndef THROUGHWAY_HEAD_FILTERS_H
#define THROUGHWAY_HEAD_FILTERS_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "head_keys.h"
#include "keys.h"

/* A packet on its way to the filters, and to the ring. The words of a filter begin below 2048. */
struct head_copy {
	struct head head;
	__u8 payload[2048 + sizeof(__u64)];
};

#define HEAD_OFFSET_MASK 2047

/* Eight bytes of the payload. Those behind its end are whatever was there before, and are masked out. */
static __always_inline __u64 head_word(const struct head_copy *copy, __u32 offset)
{
	return *(const __u64 *)(copy->payload + (offset & HEAD_OFFSET_MASK));
}

/* Whether the words of a filter are in this payload. */
static __always_inline int words_fit(const struct head_filter *filter, const struct head_copy *copy)
{
	for (int i = 0; i < HEAD_WORDS; i++) {
		const struct head_word *word = &filter->words[i];
		__u64 wanted = word->like ? head_word(copy, word->like) & word->mask : word->value;

		if (((head_word(copy, word->offset) & word->mask) != wanted) != !!word->differs)
			return 0;
	}
	return 1;
}

/* Whether one filter lets this payload through. Not static: the verifier then looks at it once. */
__noinline int filter_fits(const struct head_filter *filter, const struct head_copy *copy)
{
	__u16 host_port, peer_port, responders, initiators;
	const struct head *head = &copy->head;
	int is_from_initiator;
	__u32 first;

	if (!filter || !copy)
		return 0;
	is_from_initiator = head->direction == head->initiator;
	host_port = bpf_ntohs(head->key.host_port);
	peer_port = bpf_ntohs(head->key.peer_port);
	responders = head->initiator == TO_PEER ? peer_port : host_port;
	initiators = head->initiator == TO_PEER ? host_port : peer_port;
	first = copy->payload[0];
	if (filter->protocol != head->key.protocol || head->size < filter->size_min || head->size > filter->size_max)
		return 0;
	if (filter->flags & (is_from_initiator ? HEAD_OF_RESPONDER : HEAD_OF_INITIATOR))
		return 0;
	if (responders < filter->port_min || responders > filter->port_max) {
		if (filter->flags & HEAD_PORT_OF_RESPONDER)
			return 0;
		if (initiators < filter->port_min || initiators > filter->port_max)
			return 0;
	}
	if (head->filled < filter->needs)
		return !!(filter->flags & HEAD_SHORT_FITS);
	if (!(filter->first[first >> 6 & 3] >> (first & 63) & 1))
		return 0;
	return words_fit(filter, copy);
}

__noinline int filters_fit(const struct head_rules *rules, const struct head_copy *copy)
{
	if (!rules || !copy)
		return 0;
	for (__u32 i = 0; i < HEAD_FILTERS_MAX && i < rules->count; i++) {
		if (filter_fits(&rules->filters[i], copy))
			return 1;
	}
	return 0;
}

#endif
