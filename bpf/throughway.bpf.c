/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data plane in the kernel: exact matches, and no policy. What it does not know it hands to the daemon.
 *
 *             inside interfaces                                outside interface
 *            +------------------+                             +------------------+
 *   hosts -->| inside_ingress   |--> conntrack, routing, ---->| outside_egress   |--> peers
 *            |  observe IKE,    |    forward filter           |  host -> us      |
 *            |  control, AH;    |                             |  miss: hold      |
 *            |  copy heads      |                             |                  |
 *            | inside_egress    |<-- conntrack, routing, <----| outside_ingress  |
 *   hosts <--|  observe, and    |    forward filter           |  us -> host      |<-- peers
 *            |  held ones pass  |                             |  miss: hold      |
 *            +------------------+                             +------------------+
 *
 *   control: the daemon's verdicts, by test run; attached nowhere
 *
 * A held packet from outside comes back by outside_egress, which turns it round to outside_ingress; one
 * to the outside comes back by outside_egress and goes on there. A fragment that waited for its first one comes
 * back the same way, and from then on is as if it came only now.
 *
 * Only stable UAPI types are used, so one object runs on every kernel from 6.1 on.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "outside_ingress.h"
#include "outside_egress.h"
#include "inside.h"
#include "control.h"

/* The kernel's helpers are for programs under the GPL. */
char LICENSE[] SEC("license") = "GPL";
