package camera

import "github.com/sightd/sightd/camera/internal/imagefile"

// IsImageName is whether a path has the extension of an image that a camera can
// read: .jpg, .png and the like.
func IsImageName(path string) bool { return imagefile.Named(path) }
