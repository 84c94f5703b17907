package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestWrongUsageIsExitStatus2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unchanged(t, dir)
	for line, want := range map[string]string{
		"":                                     "expected",
		"sing":                                 "unexpected argument sing",
		"run":                                  "missing flags: --config=FILE",
		"run -c a.yaml --until-the-end":        "unknown flag --until-the-end",
		"run -c a.yaml --log-level loud":       "--log-level must be one of",
		"classify":                             "expected",
		"classify " + tiny:                     "expected",
		"classify " + tiny + " a.png --top=-1": "--top -1: want 0 or more",
		"classify " + tiny + " a.png --top x":  "--top",
		"classify " + tiny + " a.png --precision int4": "--precision must be one of",
		"classify " + tiny + " a.png --threads=-1":     "--threads -1: want 0 or more",
		"eval " + tiny + " --images " + dir:            "missing flags: --index=FILE",
		"eval " + tiny + " --images none --index none": "no such file",
		"cache show": "expected",
		"cache check release/testdata/tiny/calib.cache":                                                     "missing flags: --model=FILE",
		"cache check release/testdata/tiny/calib.cache --model release/testdata/tiny/net.onnx --coverage 2": "--coverage 2: want a share from 0 to 1",
		"cache convert release/testdata/tiny/calib.cache --to eleven -o " + dir + "/out":                    "--to",
		"cache convert release/testdata/tiny/calib.cache --algorithm Best -o " + dir + "/out":               "--algorithm",
		"release pack " + tiny: "missing flags: --out=OUT",
		"release pack " + tiny + " -o " + dir + "/out --golden-most 1001": "--golden-most 1001: want 1 to 1000",
		"release install " + tiny: "missing flags: --config=FILE",
		"release status":          "missing flags: --config=FILE",
		"release install " + tiny + " -c a.yaml --hold --wait":  "--hold and --wait exclude each other",
		"release install " + tiny + " -c a.yaml --timeout=-1s":  "--timeout -1s: want 0 or more",
		"release wait tiny -c a.yaml --timeout=-1s":             "--timeout -1s: want 0 or more",
		"release wait tiny x -c a.yaml":                         `found "x", wanted a release's number such as 7, or 7.3`,
		"release wait tiny -c a.yaml --for built":               "--for must be one of",
		"release activate tiny -c a.yaml":                       "expected",
		"release activate tiny 07 -c a.yaml":                    `found "07", wanted a release's number`,
		"release rollback tiny 0 -c a.yaml":                     `found "0", wanted a release's number`,
		"release remove tiny 7.0 -c a.yaml":                     `found "7.0", wanted a release's number`,
		"release show tiny -1 -c a.yaml":                        "unknown flag -1",
		"release list":                                          "missing flags: --config=FILE",
		"release keygen":                                        "expected",
		"release keygen " + dir + "/a -W -p " + dir + "/a":      "both keys would be",
		"release keygen " + dir + "/a -W --password-file p":     "exclude each other",
		"release sign " + tiny:                                  "missing flags: --secret-key=FILE",
		"release sign a.cache -s k":                             "name its release with --for NAME:NUMBER",
		"release sign a.cache -s k --for a:1":                   "name that release with --manifest-of",
		"release sign a.cache -s k --for a --manifest-of b":     "--for a: want NAME:NUMBER",
		"release sign a.cache -s k --for a:0 --manifest-of b":   "--for a:0: want NAME:NUMBER",
		"release sign b -s k --revision 2":                      "are for a single file",
		"release sign a.cache -s k --for a:1 --revision=-2":     "--revision -2: want 1 to",
		"release verify " + tiny:                                "name the trusted keys with --key",
		"release verify " + tiny + " --key " + dir + "/no":      "want a minisign public key: open",
		"release verify " + tiny + " --key go.mod":              "--key go.mod: want a minisign public key",
		"release verify " + tiny + " --key go.mod --revoked x":  "--revoked x: want a key id",
		"release verify " + tiny + " --key go.mod=[":            "is no pattern of models' names",
		"release verify " + tiny + " --key go.mod -c a.yaml":    "name the trusted keys with --key, or",
		"release verify " + tiny + " -c a.yaml --revoked 1":     "with -c the configuration says that",
		"release verify a.cache --key go.mod":                   "name the release that it is for with --manifest-of",
		"release verify " + tiny + " --key go.mod --revision 2": "want the last one's number, with --manifest-of",
		"calibrate " + tiny + " -o " + dir + "/out":             "missing flags: --images",
		"config check":                  "missing flags: --config=FILE",
		"bench " + tiny + " --frames 0": "want positive numbers",
		"build " + tiny + " --backend ort --quantization explicit":                                            "--quantization explicit: that is for TensorRT alone",
		"build " + tiny + " --backend ort --force-int8 --workspace 2GiB":                                      "--workspace, --force-int8: that is for TensorRT alone",
		"build " + tiny + " --force-int8 --precision fp16":                                                    "--force-int8 is about INT8, --precision says fp16",
		"build " + tiny + " --device dla --cores x":                                                           "--cores x: want auto or a number",
		"build " + tiny + " --device gpu --cores 2":                                                           "it takes --device dla",
		"build " + tiny + " --batch 0":                                                                        "--batch 0: want 1 to 1024",
		"build " + tiny + " -c a.yaml --tactic-memory 1GiB --batch 2":                                         "--tactic-memory, --batch 2: with -c the configuration says that",
		"classify " + tiny + " a.png --backend ort --optimisation 3":                                          "--optimization-level 3: that is for TensorRT alone",
		"bench " + tiny + " --backend ort --quantization implicit":                                            "--quantization implicit: that is for TensorRT alone",
		"calibrate " + tiny + " --images " + dir + " -o " + dir + "/out --backend tensorrt --tensorrt 10.3.0": "--tensorrt 10.3.0: with --backend tensorrt",
		"version 1": "unexpected argument 1",
	} {
		o := command(t, strings.Fields(line)...)
		if o.status != 2 || o.stdout != "" || !strings.HasPrefix(o.stderr, "sightd: ") {
			t.Errorf("sightd %s: exit status %d, standard output %q, standard error %q", line, o.status, o.stdout, o.stderr)
		}
		wantParts(t, o.stderr, want)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(new(cli), kong.Name("sightd"))
	if err != nil {
		t.Fatal(err)
	}
	nodes := append(parser.Model.Leaves(false), parser.Model.Node)
	for _, node := range nodes {
		path := strings.Fields(strings.TrimPrefix(node.FullPath(), "sightd"))
		o := command(t, append(path, "--help")...)
		if o.status != 0 || o.stderr != "" || !strings.HasPrefix(o.stdout, "Usage: "+node.FullPath()) {
			t.Errorf("%q --help: exit status %d: %s%s", path, o.status, o.stderr, o.stdout)
		}
		if node != parser.Model.Node && node.Help == "" {
			t.Errorf("%q has no explanation", path)
		}
		for _, flag := range node.Flags {
			if flag.Help == "" {
				t.Errorf("%q --%s has no explanation", path, flag.Name)
			}
			wantParts(t, o.stdout, "--"+flag.Name)
		}
		for _, arg := range node.Positional {
			if arg.Help == "" {
				t.Errorf("%q: %s has no explanation", path, arg.Name)
			}
		}
	}
}
