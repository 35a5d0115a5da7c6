"""The command `heron`: each verb parses, calls one function below, prints. Nothing here loads torch before it is needed."""
