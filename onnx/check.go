package onnx

import (
	"errors"
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

const (
	maxGraphs = 8       // graphs inside graphs (If, Loop, Scan)
	maxNodes  = 100_000 // in one graph; large classifiers have some thousand
)

// check holds p to what the rest of the package takes for granted, and puts
// its nodes into an order in which each reads only what stands before it.
func check(p *pb.ModelProto) error {
	g := p.GetGraph()
	switch {
	case g == nil:
		return errors.New("no graph in it, want an ONNX model: it is another kind of file, or was cut short")
	case p.GetIrVersion() <= 0:
		return errors.New("no IR version in it, want an ONNX model: it is another kind of file, or a damaged model")
	case p.GetIrVersion() > maxIR:
		return fmt.Errorf("IR version %d is too new, want at most %d: export the model for opset %d or older",
			p.GetIrVersion(), maxIR, maxOpset)
	case len(p.GetFunctions()) > 0:
		return fmt.Errorf("the model defines functions of its own (%q, …): inline them with onnx.inliner.inline_local_functions",
			p.GetFunctions()[0].GetName())
	case len(g.GetNode()) == 0:
		return errors.New("the graph has no nodes, want an image classifier")
	case len(g.GetOutput()) == 0:
		return errors.New("the graph has no output, want an image classifier")
	}
	domains, err := checkOpsets(p)
	if err != nil {
		return err
	}
	if err := checkGraph(g, domains, 1); err != nil {
		return err
	}
	return sortNodes(g, nil)
}

// checkOpsets returns the version of each operator domain that p imports, the
// standard one's as "".
func checkOpsets(p *pb.ModelProto) (map[string]int64, error) {
	domains := map[string]int64{}
	for _, o := range p.GetOpsetImport() {
		domain := o.GetDomain()
		if domain == "ai.onnx" {
			domain = ""
		}
		if v, twice := domains[domain]; twice && v != o.GetVersion() {
			return nil, fmt.Errorf("opset %d and opset %d of the operators %q are both imported, want one",
				v, o.GetVersion(), o.GetDomain())
		}
		domains[domain] = o.GetVersion()
	}
	v, ok := domains[""]
	switch {
	case !ok:
		return nil, errors.New("no version of the standard operators (opset) is imported: the model is damaged or was cut short")
	case v < minOpset:
		return nil, fmt.Errorf("opset %d is too old, want %d to %d: convert the model with onnx.version_converter",
			v, minOpset, maxOpset)
	case v > maxOpset:
		return nil, fmt.Errorf("opset %d is too new, want %d to %d: export the model for an older opset",
			v, minOpset, maxOpset)
	}
	return domains, nil
}

// checkGraph checks g and the graphs inside it, one by one.
func checkGraph(g *pb.GraphProto, domains map[string]int64, depth int) error {
	if depth > maxGraphs {
		return fmt.Errorf("graphs stand more than %d deep in one another: that is no classifier", maxGraphs)
	}
	if n := len(g.GetNode()); n > maxNodes {
		return fmt.Errorf("a graph of %d nodes, want at most %d: that is no image classifier", n, maxNodes)
	}
	if n := len(g.GetSparseInitializer()); n > 0 {
		return fmt.Errorf("%d sparse initialisers: they aren't supported, store them as dense ones", n)
	}
	for _, t := range g.GetInitializer() {
		if t.GetName() == "" {
			return errors.New("an initialiser has no name: the model is damaged, export it again")
		}
		if err := checkTensor(t); err != nil {
			return fmt.Errorf("initialiser %q: %w", t.GetName(), err)
		}
	}
	for _, n := range g.GetNode() {
		if err := checkNode(n, domains, depth); err != nil {
			return err
		}
	}
	return checkNames(g)
}

func checkNode(n *pb.NodeProto, domains map[string]int64, depth int) error {
	if err := checkOperator(n, domains); err != nil {
		return fmt.Errorf("%s: %w", describe(n), err)
	}
	for _, a := range n.GetAttribute() {
		tensors := a.GetTensors()
		if a.GetT() != nil {
			tensors = append([]*pb.TensorProto{a.GetT()}, tensors...)
		}
		for _, t := range tensors {
			if err := checkTensor(t); err != nil {
				return fmt.Errorf("%s, attribute %q: %w", describe(n), a.GetName(), err)
			}
		}
	}
	for _, g := range subgraphs(n) {
		if err := checkGraph(g, domains, depth+1); err != nil {
			return fmt.Errorf("%s: %w", describe(n), err)
		}
	}
	return nil
}

func checkOperator(n *pb.NodeProto, domains map[string]int64) error {
	domain := n.GetDomain()
	if standard(n) {
		domain = ""
	}
	switch {
	case n.GetOpType() == "":
		return errors.New("no operator is named: the model is damaged, export it again")
	case domain == "" && !operators[n.GetOpType()]:
		return fmt.Errorf("unknown operator %q: it is none of ONNX's; a custom operator or plugin can't run here, "+
			"export the model with standard operators", n.GetOpType())
	case domain != "" && !vendorDomains[domain]:
		return fmt.Errorf("unknown operator %q of the domain %q: a custom operator or plugin can't run here, "+
			"export the model with standard operators", n.GetOpType(), domain)
	case len(n.GetOutput()) == 0:
		return errors.New("it has no output: the model is damaged, export it again")
	}
	if _, ok := domains[domain]; !ok {
		return fmt.Errorf("its operators' domain %q isn't imported: the model is damaged, export it again", domain)
	}
	return nil
}

// checkNames sees that each tensor of g is made once.
func checkNames(g *pb.GraphProto) error {
	inputs := map[string]bool{}
	for _, v := range g.GetInput() {
		if v.GetName() == "" || inputs[v.GetName()] {
			return fmt.Errorf("the input %q is without a name, or listed twice: the model is damaged, export it again", v.GetName())
		}
		inputs[v.GetName()] = true
	}
	made := map[string]string{} // by whom
	for _, t := range g.GetInitializer() {
		if made[t.GetName()] != "" {
			return fmt.Errorf("the initialiser %q stands there twice: the model is damaged, export it again", t.GetName())
		}
		made[t.GetName()] = "an initialiser"
	}
	for name := range inputs {
		made[name] = "an input"
	}
	for _, n := range g.GetNode() {
		for _, name := range n.GetOutput() {
			if name == "" {
				continue
			}
			if by := made[name]; by != "" {
				return fmt.Errorf("%s makes %q, which %s makes too; a tensor is made once: the model is damaged, export it again",
					describe(n), name, by)
			}
			made[name] = describe(n)
		}
	}
	outputs := map[string]bool{}
	for _, v := range g.GetOutput() {
		if outputs[v.GetName()] {
			return fmt.Errorf("the output %q is listed twice: the model is damaged, export it again", v.GetName())
		}
		outputs[v.GetName()] = true
	}
	return nil
}
