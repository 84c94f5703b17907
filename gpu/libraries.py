"""libraries.py PROGRAM DIR: copies the shared libraries that a program needs into
a folder, so that it runs where they aren't installed.

What every machine with a C++ compiler has stays out: glibc and the compiler's own
libraries. Debian's OpenCV reads formats that no camera gives through libraries which,
with all that they pull in, are more than half of it; a small stand-in takes the
place of each: same names, functions that do nothing and return 0, data that is
zero. OpenCV then reads no such file, and all else is as it was. Libraries that are
asked about every file, as FFmpeg's probes are, can't be stood in for.
"""

import pathlib
import re
import shutil
import subprocess
import sys

# glibc's, the loader, and the compiler's.
LEFT_OUT = re.compile(r"(ld-linux.*|lib(c|m|mvec|dl|pthread|rt|resolv|util|anl|stdc\+\+|gcc_s))\.so\..*")

# Satellite and medical images, drawings, encoders, playlists, encrypted streams.
STAND_INS = re.compile(r"lib(gdal|gdcm[A-Z].*|socketxx|OpenEXR.*|Imath.*|rsvg-2|x264|x265|xvidcore|codec2|SvtAv1Enc|rav1e|aom|"
                       r"jxl|xml2|gnutls|theoraenc|mp3lame|twolame|shine|chromaprint|rabbitmq|srt-gnutls|ssh-gcrypt|"
                       r"bluray|zmq|cjson|vorbisenc|speex|zvbi|va-drm|va-x11|vdpau|OpenCL|mfx|cairo)\.so\..*")


def main(program, folder):
    folder.mkdir(parents=True, exist_ok=True)
    where = found(program)
    copied, stood_in, waiting = {}, {}, [program]
    while waiting:
        for name in needed(waiting.pop()):
            if LEFT_OUT.fullmatch(name) or name in copied or name in stood_in:
                continue
            if name not in where:
                sys.exit(f"libraries: {name} isn't found: ldd {program}")
            if STAND_INS.fullmatch(name):
                stood_in[name] = where[name]
                continue
            copied[name] = folder / name
            shutil.copy(where[name], copied[name])
            waiting.append(copied[name])
    wanted = set().union(*(undefined(f) for f in [program, *copied.values()]))
    for name, original in stood_in.items():
        stand_in(name, original, wanted, folder / name)
    subprocess.run(["strip", "--strip-unneeded", *copied.values()], check=True)
    size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
    print(f"libraries: {len(copied)} copied, {len(stood_in)} stood in for, {size:.0f} MiB", file=sys.stderr)


def found(program):
    """Where the loader finds all that a program pulls in: paths by name."""
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", output("ldd", program), re.M))


def needed(file):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", file))


def undefined(file):
    """The symbols that a file wants of others, as name@version or name."""
    lines = output("nm", "-D", "--undefined-only", file).splitlines()
    return {line.split()[-1].replace("@@", "@") for line in lines}


def stand_in(name, original, wanted, path):
    """Makes a library of a name with those of the original's symbols that are wanted."""
    assembly, versions = [], {}
    for number, line in enumerate(output("readelf", "--dyn-syms", "-W", original).splitlines()):
        fields = line.split()
        if len(fields) < 8 or fields[6] in ("UND", "Ndx", "ABS"):
            continue
        size, kind, symbol = int(fields[2], 0), fields[3], fields[7].replace("@@", "@")
        if symbol not in wanted and symbol.partition("@")[0] not in wanted:
            continue
        plain, _, version = symbol.partition("@")
        label = f"s{number}"
        if kind in ("FUNC", "IFUNC"):
            assembly += [".text", f".type {label},@function", f"{label}: xor %eax,%eax", "ret"]
        else:
            assembly += [".data", ".balign 32", f".type {label},@object", f".size {label},{max(size, 8)}",
                         f"{label}: .zero {max(size, 8)}"]
        if version:
            versions.setdefault(version, [])
            assembly += [f".globl {label}", f'.symver {label},{plain}@@{version},remove']
        else:
            assembly += [f'.globl "{plain}"', f'.type "{plain}",@{"function" if "FUNC" in kind else "object"}',
                         f'.size "{plain}",{max(size, 8)}', f'.set "{plain}",{label}']
    script = path.with_suffix(".map")
    script.write_text("".join(f"{version} {{ }};\n" for version in versions))
    flags = [f"-Wl,--version-script={script}"] if versions else []
    text = "\n".join([*assembly, '.section .note.GNU-stack,"",@progbits', ""])
    subprocess.run(["gcc", "-shared", "-nostdlib", "-s", f"-Wl,-soname,{name}", *flags, "-o", path, "-x", "assembler", "-"],
                   input=text, text=True, check=True)
    script.unlink()


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
