package onnx

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// sortNodes puts g's nodes into an order in which each reads only what stands
// before it, and changes nothing where they already are; graphs inside it
// likewise. outer holds the names that g sees of the graphs around it.
func sortNodes(g *pb.GraphProto, outer map[string]bool) error {
	s := sorter{known: map[string]bool{}, producer: map[string]*pb.NodeProto{}, state: map[*pb.NodeProto]state{}}
	for name := range outer {
		s.known[name] = true
	}
	for _, v := range g.GetInput() {
		s.known[v.GetName()] = true
	}
	for _, t := range g.GetInitializer() {
		s.known[t.GetName()] = true
	}
	for _, n := range g.GetNode() {
		for _, name := range n.GetOutput() {
			if name != "" {
				s.producer[name] = n
			}
		}
	}
	for _, n := range g.GetNode() {
		if err := s.visit(n); err != nil {
			return err
		}
	}
	for _, v := range g.GetOutput() {
		if s.producer[v.GetName()] == nil && !s.known[v.GetName()] {
			return fmt.Errorf("nothing makes the output %q: the model is damaged or was cut, export it again", v.GetName())
		}
	}
	g.Node = s.sorted
	for name := range s.producer {
		s.known[name] = true
	}
	for _, n := range g.GetNode() {
		for _, sub := range subgraphs(n) {
			if err := sortNodes(sub, s.known); err != nil {
				return fmt.Errorf("%s: %w", describe(n), err)
			}
		}
	}
	return nil
}

type state int

const (
	unseen state = iota
	open         // on the way that path shows
	done
)

type sorter struct {
	known    map[string]bool // made by no node
	producer map[string]*pb.NodeProto
	state    map[*pb.NodeProto]state
	path     []string // tensors, each needed for the one before it
	sorted   []*pb.NodeProto
}

// visit appends n to the sorted nodes, after those whose outputs it reads.
func (s *sorter) visit(n *pb.NodeProto) error {
	if s.state[n] == done {
		return nil
	}
	s.state[n] = open
	for _, name := range reads(n) {
		p := s.producer[name]
		switch {
		case p == nil && s.known[name]:
		case p == nil:
			return fmt.Errorf("%s reads %q, which nothing makes, be it a node, an input or an initialiser: "+
				"the model is damaged or was cut, export it again", describe(n), name)
		case s.state[p] == open:
			return fmt.Errorf("the graph has a cycle through the tensors %s: export the model again, without loops",
				s.cycle(p, name))
		default:
			s.path = append(s.path, name)
			if err := s.visit(p); err != nil {
				return err
			}
			s.path = s.path[:len(s.path)-1]
		}
	}
	s.state[n] = done
	s.sorted = append(s.sorted, n)
	return nil
}

// cycle lists the tensors from name, which p makes, back to name, at most ten.
func (s *sorter) cycle(p *pb.NodeProto, name string) string {
	from := len(s.path)
	for from > 0 && s.producer[s.path[from-1]] != p {
		from--
	}
	names := []string{fmt.Sprintf("%q", name)}
	for i := len(s.path) - 1; i >= from; i-- {
		if len(names) == 10 {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%q", s.path[i]))
	}
	return strings.Join(append(names, fmt.Sprintf("%q", name)), " → ")
}
