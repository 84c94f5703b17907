package onnx

// Tensors returns the names of all that has a value in the graph: inputs,
// initialisers and what nodes make. The inside of If, Loop and Scan isn't
// among them.
func (m *Model) Tensors() map[string]bool {
	names := map[string]bool{}
	g := m.proto.GetGraph()
	for _, v := range g.GetInput() {
		names[v.GetName()] = true
	}
	for _, t := range g.GetInitializer() {
		names[t.GetName()] = true
	}
	for _, n := range g.GetNode() {
		for _, name := range n.GetOutput() {
			names[name] = true
		}
	}
	delete(names, "") // an output that is left out
	return names
}

// Inputs returns the names of the model's inputs.
func (m *Model) Inputs() []string {
	var names []string
	for _, v := range m.proto.GetGraph().GetInput() {
		names = append(names, v.GetName())
	}
	return names
}

// Outputs returns the names of the model's outputs.
func (m *Model) Outputs() []string {
	var names []string
	for _, v := range m.proto.GetGraph().GetOutput() {
		names = append(names, v.GetName())
	}
	return names
}
