"""The weight-free engine: find the reference's object in the generated picture and bring its real pixels there."""
