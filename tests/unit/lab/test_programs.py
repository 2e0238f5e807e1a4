from throughway.lab import programs


def test_the_remedy_names_each_package_once() -> None:
    assert programs.remedy(["linux.uml", "/usr/lib/uml/modules", "vpnc"]) == (
        "missing: linux.uml, /usr/lib/uml/modules, vpnc; "
        "install with: apt-get install --no-install-recommends user-mode-linux vpnc"
    )


def test_a_file_is_looked_for_by_its_path_and_a_program_by_its_name() -> None:
    assert programs.is_present("/etc")
    assert not programs.is_present("/no/such/file")
    assert programs.is_present("sh")
    assert not programs.is_present("no-such-program")


def test_what_is_unpacked_has_a_remedy_of_its_own() -> None:
    pluto = f"{programs.LIBRESWAN}/usr/libexec/ipsec/pluto"
    assert programs.remedy([pluto]) == (
        f"missing: {pluto}; script/setup unpacks libreswan, which cannot be installed beside strongSwan"
    )
    assert "install --no-install-recommends vpnc; script/setup unpacks libreswan" in programs.remedy(["vpnc", pluto])
