// Package camera brings frames from cameras, videos and images to the daemon,
// already scaled to what each model wants.
//
// A worker process for each camera, the program sightd-camera, captures with
// OpenCV and writes packed RGB pixels into memory shared with the daemon: a
// [Lane] for each reader and [Geometry]. This package is the daemon's side. It
// starts and watches the worker, and replaces one that dies or hangs, while
// lanes, claimed frames and sequence numbers stay.
//
// A reader takes a frame, uses the pixels of its slot in place and releases it:
//
//	for range notified {
//		for frame, ok := lane.Take(); ok; frame, ok = lane.Take() {
//			classify(slots[frame.Slot])
//			lane.Release(frame)
//		}
//	}
//
// Live sources, and files at their own pace, give the newest frame and drop
// what nobody took in time. With each=true, and for a list of files, the worker
// waits for the reader and gives every frame once, in order.
package camera
