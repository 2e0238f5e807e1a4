"""`throughway`: the composition root of the command line.

The commands of the daemon's faces are `cli`. The bench, the lab, the simulator, the doctor and `identify` belong to
packages of their own, which `cli` does not know; they are joined here, and imported when they are used.
"""

from throughway.cli.app import app
from throughway.cli.lazy import mount

mount(
    app,
    "doctor",
    "throughway.diagnose.cli:doctor",
    "Check this machine for what keeps VPNs from passing.",
)
mount(
    app,
    "identify",
    "throughway.identify.cli:identify",
    "Name the VPN protocols in capture files.",
)
mount(app, "protocols", "throughway.protocols.cli:app", "The VPN protocols that are known, and a switch for each.")
mount(
    app,
    "bench",
    "throughway.bench.cli:bench",
    "Measure forwarding, masquerade and Throughway side by side.",
)
mount(app, "lab", "throughway.lab.cli:app", "Real VPN clients and servers in network namespaces.")
mount(
    app,
    "simulate",
    "throughway.simulate.cli:simulate",
    "Play devices and servers through the daemon's decisions, and compare with the truth.",
)


def main() -> None:
    """Run the command line, and exit with its status."""
    app(prog_name="throughway")


if __name__ == "__main__":
    main()
