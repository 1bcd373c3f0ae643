"""What helps while videos are labelled: classes, the next one, doubts."""
